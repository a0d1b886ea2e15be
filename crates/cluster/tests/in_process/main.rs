//! Whole nodes with real stores and sockets, in one process.

mod fifo;
mod fleet;
mod in_flight;
mod moves;
mod polls;
mod queues;
mod space;
