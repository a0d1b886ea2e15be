//! Numbers of the requests between cluster crates; part of the wire format.

pub(crate) mod method {
    use flotilla_consensus::FIRST_FOREIGN_METHOD as FIRST;

    pub(crate) const SUBMIT: u32 = FIRST;
    pub(crate) const CLAIM: u32 = FIRST + 1;
    pub(crate) const ARM: u32 = FIRST + 2;
    pub(crate) const WAKE: u32 = FIRST + 3;
    pub(crate) const COUNT: u32 = FIRST + 4;
    pub(crate) const DECIDE: u32 = FIRST + 5;
    pub(crate) const LOOKUP: u32 = FIRST + 6;
    pub(crate) const FOUNDING: u32 = FIRST + 7;
    pub(crate) const SPACE: u32 = FIRST + 8;
    pub(crate) const MOVE: u32 = FIRST + 9;
    pub(crate) const TENANTS: u32 = FIRST + 10;
    pub(crate) const GONE: u32 = FIRST + 11;
    pub(crate) const IN_FLIGHT: u32 = FIRST + 12;
    pub(crate) const POSITION: u32 = FIRST + 13;
}
