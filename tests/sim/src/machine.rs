//! The machine's clocks and random numbers, taken away from everything in this process.
//!
//! Hash maps draw their keys, libraries their jitter, and the product its ids from the system's random
//! numbers; timers that tokio does not own read the system's clocks. Both are one C function each, and
//! a function of the program's own comes before the C library's: so one seed decides everything,
//! without a line in the product.
//!
//! Invariants:
//! - On the simulation's thread random numbers come from the seed, and clocks show simulated time. A
//!   thread that a library starts gets numbers of its own and a clock that stands still.
//! - No two looks of clients at the clock show the same: what one does after the other is seen to be so,
//!   although it takes no simulated time.
//! - Both are deterministic only in a process of its own: each seed runs in one.

use std::cell::{Cell, RefCell};
use std::ffi::{c_int, c_uint, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio::runtime::{Handle, Id};

/// Where both simulated clocks begin: any moment long after the epoch.
const ORIGIN: Duration = Duration::from_secs(1_800_000_000);

/// A seed takes seconds of a processor, and one that lasts a minute: one that takes longer hangs, in a task that
/// never lets go.
const CPU_SECONDS_MAX: libc::rlim_t = 300;
/// And one that takes so long waits for something that never comes, or hardly gets a processor.
const REAL_SECONDS_MAX: c_uint = 1_800;

static TAKEN: AtomicBool = AtomicBool::new(false);
/// Simulated time between two steps, in nanoseconds.
static NOW_NS: AtomicU64 = AtomicU64::new(0);
static PANICKED: OnceLock<String> = OnceLock::new();
static BEGAN: OnceLock<Instant> = OnceLock::new();

thread_local! {
    /// Of the simulation's thread only.
    static DICE: RefCell<Option<StdRng>> = const { RefCell::new(None) };
    static IS_SIMULATION: Cell<bool> = const { Cell::new(false) };
    static IS_ASKING: Cell<bool> = const { Cell::new(false) };
    /// The runtime of all clients.
    static CLIENTS: Cell<Option<Id>> = const { Cell::new(None) };
    /// What they saw last.
    static SEEN: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// Takes clocks and random numbers over, for good; and ends this process if it hangs.
///
/// # Panics
/// When called twice.
#[allow(unsafe_code)]
pub(crate) fn take_over(seed: u64) {
    let limit = libc::rlimit { rlim_cur: CPU_SECONDS_MAX, rlim_max: CPU_SECONDS_MAX };
    // SAFETY: they take numbers and ask for signals, which end the process.
    unsafe {
        libc::alarm(REAL_SECONDS_MAX);
        libc::setrlimit(libc::RLIMIT_CPU, &raw const limit);
    }
    DICE.set(Some(StdRng::seed_from_u64(seed)));
    IS_SIMULATION.set(true);
    assert!(!TAKEN.swap(true, Ordering::SeqCst), "a process simulates one seed");
    watch_panics();
    // From here on this is simulated time.
    let _ = BEGAN.set(Instant::now());
}

/// The first panic of anything here, if there was one: tokio keeps those of tasks to itself.
pub(crate) fn panicked() -> Option<String> {
    PANICKED.get().cloned()
}

/// Remembers panics, and lets them be told as always.
fn watch_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |what| {
        let _ = PANICKED.set(what.to_string());
        tell(what);
    }));
}

/// Sets the time that is seen while no node runs.
pub(crate) fn set_now(since_begin: Duration) {
    NOW_NS.store(since_begin.as_nanos() as u64, Ordering::Relaxed);
}

/// Since the epoch, as a time of day without faults shows it: that of the step's beginning, so that it
/// is the same on all nodes, however fast their other clock is.
pub(crate) fn time_of_day() -> Duration {
    ORIGIN + Duration::from_nanos(NOW_NS.load(Ordering::Relaxed))
}

/// The runtime that runs is that of all clients.
pub(crate) fn these_are_clients() {
    CLIENTS.set(Some(Handle::current().id()));
}

/// What the C library's clocks show: to clients, and to who makes faults, never the same twice.
fn shown() -> Duration {
    let now = now();
    let runtime = Handle::try_current().map(|handle| handle.id()).ok();
    if runtime.is_some() && runtime != CLIENTS.get() {
        return now;
    }
    let shown = now.max(SEEN.get() + Duration::from_micros(1));
    SEEN.set(shown);
    shown
}

/// Simulated time since the begin: of the node that runs, else of the whole.
pub(crate) fn now() -> Duration {
    // Making a runtime reads the clock before there is one, and must not ask it.
    let in_node = Handle::try_current().is_ok() && !IS_ASKING.replace(true);
    if in_node {
        let now = tokio::time::Instant::now().into_std();
        IS_ASKING.set(false);
        if let Some(began) = BEGAN.get() {
            return now.saturating_duration_since(*began);
        }
    }
    Duration::from_nanos(NOW_NS.load(Ordering::Relaxed))
}

/// The machine's own clock, for what is said of the simulation's speed.
#[allow(unsafe_code)]
pub(crate) fn real_now() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the one `timespec` that it is given.
    unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Stands in for the C library's.
///
/// # Safety
/// As there: `time` is writable.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    if !TAKEN.load(Ordering::Relaxed) {
        // SAFETY: passed on as it came.
        return unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) } as c_int;
    }
    let now = if IS_SIMULATION.get() { ORIGIN + shown() } else { ORIGIN };
    // SAFETY: the caller promises that it may be written.
    unsafe {
        (*time).tv_sec = now.as_secs() as libc::time_t;
        (*time).tv_nsec = libc::c_long::from(now.subsec_nanos() as i32);
    }
    0
}

/// Stands in for the C library's.
///
/// # Safety
/// As there: `buffer` is writable for `bytes`.
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut c_void, bytes: usize, flags: c_uint) -> isize {
    if !TAKEN.load(Ordering::Relaxed) {
        // SAFETY: passed on as it came.
        return unsafe { libc::syscall(libc::SYS_getrandom, buffer, bytes, flags) } as isize;
    }
    // SAFETY: the caller promises that it may be written.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), bytes) };
    let drawn = DICE.try_with(|dice| {
        let mut dice = dice.borrow_mut();
        dice.as_mut().map(|dice| dice.fill_bytes(buffer))
    });
    if !matches!(drawn, Ok(Some(()))) {
        // Another thread, or one that is ending.
        buffer.fill(0);
    }
    bytes as isize
}
