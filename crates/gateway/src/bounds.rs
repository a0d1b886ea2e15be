//! Bounds on work: beyond them a request is refused at once rather than made to wait.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What is in work on this node. The gauges are the counters themselves.
pub(crate) struct Bounds {
    requests: Gauge,
    request_bytes: Gauge,
    requests_max: i64,
    request_bytes_max: i64,
}

/// One request's share; gives it back when dropped.
pub(crate) struct Work {
    requests: Option<Gauge>,
    request_bytes: Gauge,
    bytes: i64,
    bytes_max: i64,
}

/// A bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Bounds {
    pub(crate) fn new(
        requests_max: usize,
        request_bytes_max: usize,
        registry: &mut Registry,
    ) -> Self {
        let (requests, request_bytes) = (Gauge::default(), Gauge::default());
        registry.register(
            "requests_in_work",
            "Requests in work, waiting receives not counted",
            requests.clone(),
        );
        registry.register(
            "request_bytes_in_work",
            "Bytes of request bodies in memory",
            request_bytes.clone(),
        );
        let bound = |max| i64::try_from(max).unwrap_or(i64::MAX);
        Self {
            requests,
            request_bytes,
            requests_max: bound(requests_max),
            request_bytes_max: bound(request_bytes_max),
        }
    }

    /// # Errors
    /// When as many requests are in work as may be.
    pub(crate) fn enter(&self) -> Result<Work, Full> {
        if self.requests.inc() >= self.requests_max {
            self.requests.dec();
            return Err(Full);
        }
        Ok(Work {
            requests: Some(self.requests.clone()),
            request_bytes: self.request_bytes.clone(),
            bytes: 0,
            bytes_max: self.request_bytes_max,
        })
    }
}

impl Work {
    /// Counts bytes of the body that are about to be kept.
    ///
    /// # Errors
    /// When they do not fit any more.
    pub(crate) fn keep(&mut self, bytes: usize) -> Result<(), Full> {
        // A frame of a connection is far below i64.
        let bytes = bytes as i64;
        if self.request_bytes.inc_by(bytes) + bytes > self.bytes_max {
            self.request_bytes.dec_by(bytes);
            return Err(Full);
        }
        self.bytes += bytes;
        Ok(())
    }

    /// From now on the request only waits; the cluster bounds waiting receives itself.
    pub(crate) fn wait(&mut self) {
        if let Some(requests) = self.requests.take() {
            requests.dec();
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.wait();
        self.request_bytes.dec_by(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_or_dropped_does_not_count() {
        let bounds = Bounds::new(2, 100, &mut Registry::default());
        let mut first = bounds.enter().unwrap();
        let mut second = bounds.enter().unwrap();
        assert!(bounds.enter().is_err());
        assert_eq!(first.keep(60), Ok(()));
        assert_eq!(second.keep(60), Err(Full));
        assert_eq!(second.keep(40), Ok(()));
        first.wait();
        let third = bounds.enter().unwrap();
        drop(first);
        assert!(bounds.enter().is_err());
        drop((second, third));
        assert_eq!((bounds.requests.get(), bounds.request_bytes.get()), (0, 0));
    }
}
