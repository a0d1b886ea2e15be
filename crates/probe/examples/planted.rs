//! Plants bugs and looks whether the tests that must notice do; `scripts/planted` says how.
//!
//! A bug counts as caught when the test that is named for it fails in its own words, and passes when
//! nothing is planted.

#![allow(clippy::print_stdout, reason = "this is what it is for")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use flotilla_probe::plant::{Catch, Target};
use flotilla_probe::{Plant, Sight};

const FEATURE: &str = "flotilla-probe/probes";
/// What a test says that cannot run on this machine (some want to be root).
const SKIPPED: &str = "SKIPPED";
/// What a bug that is planted for every commit may cost.
const CHEAP_SECONDS: u32 = 30;
/// Lines of a test's output that are shown when it did something else than it should.
const SHOWN_LINES: usize = 40;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("crates/probe").to_owned()
}

/// One field of a line of JSON that cargo wrote; enough for paths, which need no escapes here.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = line.split_once(&format!("\"{name}\":\""))?;
    rest.split_once('"').map(|(value, _)| value)
}

/// Builds with the feature; the programs that were made, by their source.
fn cargo(arguments: &[&str]) -> Result<Vec<(String, PathBuf)>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .current_dir(root())
        .args(arguments)
        .args([
            "--quiet",
            "--locked",
            "--features",
            FEATURE,
            "--message-format",
            "json-render-diagnostics",
        ])
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo {} failed", arguments.join(" ")));
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let made = text.lines().filter_map(|line| {
        Some((field(line, "src_path")?.to_owned(), PathBuf::from(field(line, "executable")?)))
    });
    Ok(made.collect())
}

/// Test programs by package and target, built when they are first asked for.
#[derive(Default)]
struct Programs {
    tests: BTreeMap<String, PathBuf>,
    node: Option<PathBuf>,
}

impl Programs {
    fn test(&mut self, catch: &Catch) -> Result<PathBuf, String> {
        let source = source(catch);
        if let Some(path) = self.tests.get(&source) {
            return Ok(path.clone());
        }
        let made = match catch.target {
            // The selection with which everything else is built: nothing outside is built twice.
            Target::Unit => cargo(&["test", "--no-run", "--workspace", "--lib"])?,
            // It needs little, and its tests have the names of other crates' tests.
            Target::File(name) if catch.package == "flotilla-queue" => {
                cargo(&["test", "--no-run", "--package", catch.package, "--test", name])?
            }
            Target::File(name) => cargo(&["test", "--no-run", "--workspace", "--test", name])?,
            Target::Crashes => {
                let node = self.node()?;
                return Ok(node.with_file_name("failpoints"));
            }
        };
        let root = root();
        for (path, program) in made {
            let path = Path::new(&path);
            let short = path.strip_prefix(&root).unwrap_or(path);
            self.tests.insert(short.display().to_string(), program);
        }
        self.tests.get(&source).cloned().ok_or_else(|| format!("{source} is no test"))
    }

    /// The node, for tests of whole clusters: beside the one without probes, which it must not
    /// replace.
    fn node(&mut self) -> Result<PathBuf, String> {
        if let Some(path) = &self.node {
            return Ok(path.clone());
        }
        // With a test, because what all depend on is then built as it is for everything else.
        let targets = ["--bin", "flotilla", "--bin", "failpoints", "--test", "in_process"];
        let arguments = [&["build", "--workspace"][..], &targets].concat();
        let target = std::env::var_os("CARGO_TARGET_DIR").ok_or("CARGO_TARGET_DIR is not set")?;
        let path = PathBuf::from(target).join("debug/flotilla");
        let (plain, probed) =
            (path.with_extension("plain"), path.with_file_name("flotilla-probed"));
        let move_to = |from: &Path, to: &Path| {
            let moved = std::fs::rename(from, to);
            moved.map_err(|error| format!("{}: {error}", from.display()))
        };
        if path.is_file() {
            move_to(&path, &plain)?;
        }
        let made = cargo(&arguments).and_then(|_| move_to(&path, &probed));
        if plain.is_file() {
            move_to(&plain, &path)?;
        }
        made?;
        Ok(self.node.insert(probed).clone())
    }
}

fn source(catch: &Catch) -> String {
    let package = catch.package.trim_start_matches("flotilla-");
    let dir = if package == "tests" { "tests".into() } else { format!("crates/{package}") };
    match catch.target {
        Target::Unit => format!("{dir}/src/lib.rs"),
        Target::Crashes => format!("{dir}/src/bin/failpoints.rs"),
        Target::File(name) if root().join(format!("{dir}/tests/{name}.rs")).is_file() => {
            format!("{dir}/tests/{name}.rs")
        }
        Target::File(name) => format!("{dir}/tests/{name}/main.rs"),
    }
}

/// What a test came to.
struct Outcome {
    passed: bool,
    failed: bool,
    text: String,
    seconds: f32,
}

fn run(
    programs: &mut Programs,
    catch: &Catch,
    plant: Option<Plant>,
    seen: Option<&Path>,
) -> Result<Outcome, String> {
    let mut command = Command::new(programs.test(catch)?);
    let package = catch.package.trim_start_matches("flotilla-");
    let dir = if package == "tests" { "tests".into() } else { format!("crates/{package}") };
    command.current_dir(root().join(dir));
    if catch.target == Target::Crashes {
        command.arg(catch.test).env("FLOTILLA_PROBES_SEEN", scratch());
    } else {
        command.args(["--exact", catch.test, "--nocapture"]);
    }
    command.env("PROPTEST_FAILURE_PERSISTENCE", "off").env_remove("FLOTILLA_PLANTED");
    if package == "tests" {
        command.env("FLOTILLA_BIN", programs.node()?);
    }
    if let Some(seen) = seen {
        command.env("FLOTILLA_PROBES_SEEN", seen);
    }
    if let Some(plant) = plant {
        command.env("FLOTILLA_PLANTED", plant.name());
    }
    let begin = Instant::now();
    let output = command.output().map_err(|error| format!("{}: {error}", catch.test))?;
    let both = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&both).into_owned();
    if catch.target == Target::Crashes {
        // It may not have been made at all.
        let _ = std::fs::remove_file(scratch());
    }
    let (passes, fails) = match catch.target {
        Target::Crashes => ("(0 bad)", "(1 bad)"),
        _ => ("1 passed", "0 passed; 1 failed"),
    };
    Ok(Outcome {
        passed: output.status.success() && text.contains(passes),
        failed: !output.status.success() && text.contains(fails),
        text,
        seconds: begin.elapsed().as_secs_f32(),
    })
}

/// A file that nobody else uses.
fn scratch() -> PathBuf {
    std::env::temp_dir().join(format!("flotilla-seen-{}", std::process::id()))
}

fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n")
}

/// Plants the bugs one after the other; how many were not caught.
fn plant_all(plants: &[Plant]) -> Result<usize, String> {
    let mut programs = Programs::default();
    let mut sound: BTreeMap<(String, &str), bool> = BTreeMap::new();
    let mut missed = 0;
    for plant in plants {
        let catch = plant.caught_by();
        let key = (source(&catch), catch.test);
        if !sound.contains_key(&key) {
            let outcome = run(&mut programs, &catch, None, None)?;
            if !outcome.passed {
                println!(
                    "{}\nnothing is planted, and {} does not pass",
                    tail(&outcome.text),
                    key.1
                );
            }
            sound.insert(key.clone(), outcome.passed);
        }
        let outcome = run(&mut programs, &catch, Some(*plant), None)?;
        let caught = outcome.failed && outcome.text.contains(catch.says);
        let verdict = match (sound[&key], caught, outcome.passed) {
            (false, ..) => "the test does not pass without it",
            (true, true, _) => "caught",
            (true, false, true) if outcome.text.contains(SKIPPED) => SKIPPED,
            (true, false, true) => "NOT NOTICED",
            (true, false, false) => "failed for another reason",
        };
        let (name, seconds) = (plant.name(), outcome.seconds);
        println!("{name:<24} {seconds:>5.1} s  {verdict} by {} ({})", key.1, key.0);
        if verdict != "caught" && verdict != SKIPPED {
            println!("{}", tail(&outcome.text));
            missed += 1;
        }
    }
    println!("{} of {} planted bugs caught", plants.len() - missed, plants.len());
    Ok(missed)
}

/// Whether the tests reach what they must; how many states they do not. The other states are those of
/// `scripts/failpoints`.
fn look_for_sights() -> Result<usize, String> {
    let mut programs = Programs::default();
    let seen = scratch();
    let mut missed = 0;
    for sight in Sight::ALL {
        let Some(catch) = sight.reached_by() else { continue };
        let outcome = run(&mut programs, &catch, None, Some(&seen))?;
        let text = std::fs::read_to_string(&seen).unwrap_or_default();
        let reached = outcome.passed && text.lines().any(|line| line == sight.name());
        // It may not have been made at all.
        let _ = std::fs::remove_file(&seen);
        let verdict = if reached { "reached" } else { "NOT REACHED" };
        println!("{:<24} {verdict} by {} ({})", sight.name(), catch.test, source(&catch));
        missed += usize::from(!reached);
    }
    Ok(missed)
}

/// The table as it is in the tests' README.
fn list() {
    println!("| bug | what is wrong | caught by | seconds |\n| --- | --- | --- | --- |");
    for plant in Plant::ALL {
        let catch = plant.caught_by();
        let (name, wrong, seconds) = (plant.name(), plant.wrong(), catch.seconds);
        println!("| `{name}` | {wrong} | `{}` in `{}` | {seconds} |", catch.test, source(&catch));
    }
}

/// Another one for each commit, of those that cost little: not those for which the unit tests of all
/// crates would have to be built, nor those that take long.
fn rotated() -> Result<Plant, String> {
    let is_cheap = |plant: &Plant| {
        let catch = plant.caught_by();
        matches!(catch.target, Target::File(_)) && catch.seconds <= CHEAP_SECONDS
    };
    let cheap: Vec<Plant> = Plant::ALL.iter().copied().filter(is_cheap).collect();
    let output = Command::new("git")
        .current_dir(root())
        .args(["rev-parse", "HEAD"])
        .output()
        .map_err(|error| format!("git: {error}"))?;
    let commit = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = u64::from_str_radix(commit.get(..15).unwrap_or_default(), 16);
    let number = number.map_err(|_| "git knows no commit".to_owned())?;
    Ok(cheap[number as usize % cheap.len()])
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let chosen: Result<Vec<Plant>, String> = match arguments.first().map(String::as_str) {
        Some("--list") => {
            list();
            return ExitCode::SUCCESS;
        }
        Some("--sights") => return code(look_for_sights()),
        Some("--node") => {
            let node = Programs::default().node();
            return code(node.map(|path| {
                println!("{}", path.display());
                0
            }));
        }
        Some("--rotate") => rotated().map(|plant| vec![plant]),
        None => Ok(Plant::ALL.to_vec()),
        Some(_) => arguments
            .iter()
            .map(|name| Plant::named(name).ok_or_else(|| format!("no bug is called {name}")))
            .collect(),
    };
    let everything = arguments.is_empty();
    let missed = chosen.and_then(|plants| plant_all(&plants));
    code(missed.and_then(|missed| match everything {
        true => Ok(missed + look_for_sights()?),
        false => Ok(missed),
    }))
}

/// For so many that were missed.
fn code(outcome: Result<usize, String>) -> ExitCode {
    match outcome {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::from(2)
        }
    }
}
