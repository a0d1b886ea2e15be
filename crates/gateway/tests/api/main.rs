//! The front end over real HTTP, on a cluster that lives in memory.

mod batches;
mod both;
mod client;
mod connections;
mod dead_letters;
mod fake;
mod fifo;
mod fuzz;
mod lines;
mod messages;
mod moves;
mod permissions;
mod policies;
mod protocol;
mod query;
mod queues;
mod tags;
mod torture;
mod trouble;
