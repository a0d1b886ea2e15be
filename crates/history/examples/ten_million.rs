//! How fast a history is written, read and judged.
//!
//! `cargo run --release -p flotilla-history --example ten_million [requests] [file]`

#[allow(unreachable_pub)]
#[path = "../tests/common/steady.rs"]
mod steady;

use std::io::{BufReader, BufWriter, Write};
use std::time::Instant;

use flotilla_history::{
    Answer, Bounds, Checker, Header, Options, Reader, Record, Tail, check_reader, file,
};
use steady::history;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let requests: u64 = args.next().map_or(Ok(10_000_000), |text| text.parse())?;
    let path = args.next();
    let messages = requests * 10 / 31;
    let options = Options { bounds: Bounds::exact(), ..Options::default() };
    let header = Header { options, ..Header::default() };
    let mut out = std::io::stdout();

    // Made in pieces, so that the time of making them is not counted and memory holds few of them.
    let mut checker = Checker::new(header.clone());
    let (mut adding, mut count) = (std::time::Duration::ZERO, 0u64);
    let mut piece = Vec::with_capacity(100_000);
    let mut add = |piece: &mut Vec<Record>| {
        let began = Instant::now();
        piece.iter().for_each(|record| checker.add(record));
        adding += began.elapsed();
        count += piece.len() as u64;
        piece.clear();
    };
    history(messages, |record| {
        piece.push(record);
        if piece.len() == 100_000 {
            add(&mut piece);
        }
    });
    add(&mut piece);
    let began = Instant::now();
    let verdict = checker.finish(Tail::Whole);
    let judging = began.elapsed();
    writeln!(
        out,
        "{count} requests: {:?}; taken in {adding:.2?}, judged in {judging:.2?}, together {:.2?}",
        verdict.answer,
        adding + judging
    )?;
    if verdict.answer != Answer::Pass {
        out.write_all(flotilla_history::report(&verdict, &[]).as_bytes())?;
    }
    drop(verdict);

    let Some(path) = path else { return Ok(()) };
    let began = Instant::now();
    let mut sink = BufWriter::with_capacity(1 << 20, std::fs::File::create(&path)?);
    file::write_header(&header, &mut sink)?;
    let mut failed = None;
    history(messages, |record| {
        failed = file::write_record(&record, &mut sink).err().or(failed.take());
    });
    failed.map_or(Ok(()), Err)?;
    file::write_end(count, &mut sink)?;
    sink.into_inner()?;
    let bytes = std::fs::metadata(&path)?.len();
    writeln!(out, "made and written in {:.2?}: {} bytes each", began.elapsed(), bytes / count)?;
    let began = Instant::now();
    let source = BufReader::with_capacity(1 << 20, std::fs::File::open(&path)?);
    let verdict = check_reader(&mut Reader::new(source)?)?;
    writeln!(out, "read and judged in {:.2?}: {:?}", began.elapsed(), verdict.answer)?;
    Ok(())
}
