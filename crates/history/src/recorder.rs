//! Writes requests down as they are answered, from any number of threads.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use crate::file::{self, Header};
use crate::record::Record;

/// The history's one clock: microseconds since it was made, never backwards. A simulator writes its
/// own time into the records instead.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    zero: Instant,
    wall_zero_ms: u64,
}

impl Clock {
    /// Starts at 0.
    pub fn start() -> Self {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_zero_ms = u64::try_from(wall.as_millis()).unwrap_or(u64::MAX);
        Self { zero: Instant::now(), wall_zero_ms }
    }

    /// Now.
    pub fn now_us(&self) -> u64 {
        u64::try_from(self.zero.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// For [`Header::wall_zero_ms`].
    pub fn wall_zero_ms(&self) -> u64 {
        self.wall_zero_ms
    }
}

struct Sink<W> {
    write: W,
    records: u64,
    /// The first failure: nothing is written after it, so that a gap cannot go unnoticed.
    failed: Option<io::Error>,
}

/// Takes records from everywhere. A record is encoded by the thread that brings it; the lock is held
/// for one copy into the sink's buffer.
pub struct Recorder<W: Write> {
    sink: Mutex<Sink<W>>,
    records: AtomicU64,
}

impl<W: Write> Recorder<W> {
    /// Writes the first line. The sink should be buffered.
    ///
    /// # Errors
    /// When the sink fails.
    pub fn new(header: &Header, mut write: W) -> io::Result<Self> {
        file::write_header(header, &mut write)?;
        let sink = Sink { write, records: 0, failed: None };
        Ok(Self { sink: Mutex::new(sink), records: AtomicU64::new(0) })
    }

    /// Writes a request down. A client does this before its next request. Failures are told by
    /// [`finish`](Self::finish).
    pub fn record(&self, record: &Record) {
        let mut line = Vec::with_capacity(512);
        let encoded = file::write_record(record, &mut line);
        let mut sink = self.sink.lock();
        if sink.failed.is_some() {
            return;
        }
        match encoded.and_then(|()| sink.write.write_all(&line)) {
            Ok(()) => sink.records += 1,
            Err(error) => sink.failed = Some(error),
        }
        self.records.store(sink.records, Ordering::Relaxed);
    }

    /// How many there are, without waiting for anybody.
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }

    /// Hands everything on that is still buffered.
    ///
    /// # Errors
    /// The first failure of the sink.
    pub fn flush(&self) -> io::Result<()> {
        let mut sink = self.sink.lock();
        match sink.failed.take() {
            Some(error) => Err(error),
            None => sink.write.flush(),
        }
    }

    /// Writes the last line. Only when every client has ended: a request without a record must not
    /// have been made.
    ///
    /// # Errors
    /// The first failure of the sink.
    pub fn finish(self) -> io::Result<W> {
        let Sink { mut write, records, failed } = self.sink.into_inner();
        if let Some(error) = failed {
            return Err(error);
        }
        file::write_end(records, &mut write)?;
        write.flush()?;
        Ok(write)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::{Reader, Tail};
    use crate::record::{Mark, Op};

    fn note(process: u32, at: u64) -> Record {
        let op = Op::Mark(Mark::Note("n".to_owned()));
        let (status, request_id) = (None, None);
        Record { process, node: 0, invoked_us: at, returned_us: at, status, request_id, op }
    }

    #[test]
    fn records_of_many_threads_are_all_there_and_whole() {
        let recorder = Recorder::new(&Header::default(), Vec::new()).unwrap();
        std::thread::scope(|scope| {
            for process in 0..4 {
                let recorder = &recorder;
                scope.spawn(move || (0..500).for_each(|at| recorder.record(&note(process, at))));
            }
        });
        assert_eq!(recorder.records(), 2_000);
        let bytes = recorder.finish().unwrap();
        let mut reader = Reader::new(bytes.as_slice()).unwrap();
        let mut next = [0; 4];
        for record in reader.by_ref() {
            let record = record.unwrap();
            let next = &mut next[record.process as usize];
            assert_eq!(record.invoked_us, *next, "each client's records are in its order");
            *next += 1;
        }
        assert_eq!((next, reader.tail()), ([500; 4], Some(Tail::Whole)));
    }

    #[test]
    fn a_sink_that_failed_is_not_written_to_again() {
        struct Full(usize);
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let recorder = Recorder::new(&Header::default(), Full(500)).unwrap();
        (0..1_000).for_each(|at| recorder.record(&note(0, at)));
        assert!(recorder.records() < 1_000);
        assert_eq!(recorder.finish().err().unwrap().kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn the_clock_does_not_go_back() {
        let clock = Clock::start();
        let times: Vec<u64> = (0..1_000).map(|_| clock.now_us()).collect();
        assert!(times.is_sorted());
        assert!(clock.wall_zero_ms() > 1_600_000_000_000);
    }
}
