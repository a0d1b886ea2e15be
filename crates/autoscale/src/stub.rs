//! An SQS endpoint that says what it is told to say.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Messages that somebody works on.
pub(crate) const IN_FLIGHT: u64 = 2;

/// Its queues have as many visible messages as `visible` says, and [`IN_FLIGHT`]. It refuses
/// everything once there is nobody to say it.
pub(crate) async fn endpoint(visible: watch::Receiver<u64>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(stream, visible.clone()));
        }
    });
    url
}

async fn serve(mut stream: TcpStream, visible: watch::Receiver<u64>) {
    let mut bytes = Vec::new();
    while stream.read_buf(&mut bytes).await.is_ok_and(|len| len > 0) {
        // Requests are small JSON objects, without others inside.
        if !bytes.ends_with(b"}") {
            continue;
        }
        let asked = String::from_utf8(std::mem::take(&mut bytes)).unwrap();
        let (status, body) = answer(&asked, &visible);
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
        if stream.write_all((head + &body).as_bytes()).await.is_err() {
            return;
        }
    }
}

fn answer(asked: &str, visible: &watch::Receiver<u64>) -> (&'static str, String) {
    if visible.has_changed().is_err() {
        return ("503 Busy", String::new());
    }
    if asked.contains("GetQueueUrl") {
        return ("200 OK", r#"{"QueueUrl":"http://q"}"#.to_owned());
    }
    let visible = *visible.borrow();
    let counts = format!(
        r#"{{"Attributes":{{"ApproximateNumberOfMessages":"{visible}",
        "ApproximateNumberOfMessagesNotVisible":"{IN_FLIGHT}"}}}}"#
    );
    ("200 OK", counts)
}
