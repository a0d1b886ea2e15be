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
    simulation: Option<PathBuf>,
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
            Target::Seeds(_) => return self.simulation(),
        };
        let root = root();
        for (path, program) in made {
            let path = Path::new(&path);
            let short = path.strip_prefix(&root).unwrap_or(path);
            self.tests.insert(short.display().to_string(), program);
        }
        self.tests.get(&source).cloned().ok_or_else(|| format!("{source} is no test"))
    }

    /// The simulation, which is a workspace of its own.
    fn simulation(&mut self) -> Result<PathBuf, String> {
        if let Some(path) = &self.simulation {
            return Ok(path.clone());
        }
        let output = Command::new(root().join("tests/sim/run"))
            .arg("--program")
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| format!("tests/sim/run: {error}"))?;
        let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
        if !output.status.success() || !path.is_file() {
            return Err("the simulation cannot be built".to_owned());
        }
        Ok(self.simulation.insert(path).clone())
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

fn dir(catch: &Catch) -> String {
    match catch.package.trim_start_matches("flotilla-") {
        "tests" => "tests".to_owned(),
        "sim" => "tests/sim".to_owned(),
        package => format!("crates/{package}"),
    }
}

fn source(catch: &Catch) -> String {
    let dir = dir(catch);
    match catch.target {
        Target::Seeds(_) => dir,
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
    command.current_dir(root().join(dir(catch)));
    match catch.target {
        Target::Crashes => command.arg(catch.test).env("FLOTILLA_PROBES_SEEN", scratch()),
        Target::Seeds(count) => command
            .arg("--dir")
            .arg(std::env::temp_dir().join("flotilla-planted"))
            // Of the first ones that find nothing by themselves (tests/sim/seeds).
            .args(["many", "--until-bad", "--seed", "14", "--seeds", &count.to_string()]),
        _ => command.args(["--exact", catch.test, "--nocapture"]),
    };
    command.env("PROPTEST_FAILURE_PERSISTENCE", "off").env_remove("FLOTILLA_PLANTED");
    if catch.package == "flotilla-tests" {
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
        Target::Crashes | Target::Seeds(_) => ("(0 bad)", "bad)"),
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

/// What became of the bugs that were planted.
#[derive(Default)]
struct Score {
    caught: usize,
    missed: usize,
    /// Nobody knows: this machine cannot run the test.
    skipped: usize,
}

impl Score {
    /// Where skipping is not allowed, what is not known is as bad as what was missed.
    fn bad(&self) -> usize {
        let setting = |name: &str| std::env::var(name).unwrap_or_default();
        let strict = !setting("CI").is_empty() && setting("FLOTILLA_ALLOW_SKIPS") != "1";
        self.missed + if strict { self.skipped } else { 0 }
    }
}

/// Plants the bugs one after the other, each before who must catch it.
fn plant_all(plants: &[(Plant, Catch)]) -> Result<Score, String> {
    let mut programs = Programs::default();
    let mut sound: BTreeMap<(String, String), bool> = BTreeMap::new();
    let mut score = Score::default();
    for (plant, catch) in plants {
        let key = (source(catch), who(catch));
        if !sound.contains_key(&key) {
            let outcome = run(&mut programs, catch, None, None)?;
            if !outcome.passed {
                let (text, who) = (tail(&outcome.text), &key.1);
                println!("{text}\nnothing is planted, and {who} does not pass");
            }
            sound.insert(key.clone(), outcome.passed);
        }
        let outcome = run(&mut programs, catch, Some(*plant), None)?;
        let caught = outcome.failed && outcome.text.contains(catch.says);
        let verdict = match (sound[&key], caught, outcome.passed) {
            (false, ..) => "the test does not pass without it",
            (true, true, _) => "caught",
            (true, false, true) if outcome.text.contains(SKIPPED) => SKIPPED,
            (true, false, true) => "NOT NOTICED",
            (true, false, false) => "failed for another reason",
        };
        let (name, seconds) = (plant.name(), outcome.seconds);
        let seed = bad_seed(&outcome.text).map_or(String::new(), |seed| format!(", seed {seed}"));
        println!("{name:<24} {seconds:>5.1} s  {verdict} by {}{seed} ({})", key.1, key.0);
        match verdict {
            "caught" => score.caught += 1,
            SKIPPED => score.skipped += 1,
            _ => {
                println!("{}", tail(&outcome.text));
                score.missed += 1;
            }
        }
    }
    let Score { caught, missed, skipped } = score;
    println!(
        "{caught} of {} planted bugs caught, {missed} missed, {skipped} skipped",
        plants.len()
    );
    Ok(score)
}

/// Who must notice, in words.
fn who(catch: &Catch) -> String {
    match catch.target {
        Target::Seeds(count) => format!("{count} simulated clusters"),
        _ => catch.test.to_owned(),
    }
}

/// The seed that found something, where seeds were run.
fn bad_seed(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("bad seeds: [")?;
    rest.split([',', ']']).next()
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
    println!(
        "| bug | what is wrong | caught by | seconds | simulated |\n| --- | --- | --- | --- | --- |"
    );
    for plant in Plant::ALL {
        let catch = plant.caught_by();
        let (name, wrong, seconds) = (plant.name(), plant.wrong(), catch.seconds);
        let simulated = plant
            .simulated()
            .map_or_else(|| "no".to_owned(), |it| format!("{}: {}", who(&it), it.says));
        println!(
            "| `{name}` | {wrong} | `{}` in `{}` | {seconds} | {simulated} |",
            who(&catch),
            source(&catch)
        );
    }
}

/// Who notices a bug with the least effort: simulated clusters are built in any case.
fn cheapest(plant: Plant) -> Catch {
    plant.simulated().unwrap_or_else(|| plant.caught_by())
}

/// Another one for each commit, of all.
fn rotated() -> Result<Plant, String> {
    let output = Command::new("git")
        .current_dir(root())
        .args(["rev-parse", "HEAD"])
        .output()
        .map_err(|error| format!("git: {error}"))?;
    let commit = String::from_utf8_lossy(&output.stdout).into_owned();
    let number = u64::from_str_radix(commit.get(..15).unwrap_or_default(), 16);
    let number = number.map_err(|_| "git knows no commit".to_owned())?;
    Ok(Plant::ALL[number as usize % Plant::ALL.len()])
}

/// The bugs of these names, or all.
fn named(names: &[String]) -> Result<Vec<Plant>, String> {
    if names.is_empty() {
        return Ok(Plant::ALL.to_vec());
    }
    let plant =
        |name: &String| Plant::named(name).ok_or_else(|| format!("no bug is called {name}"));
    names.iter().map(plant).collect()
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let by_test = |plant: Plant| (plant, plant.caught_by());
    let chosen: Result<Vec<(Plant, Catch)>, String> = match arguments.first().map(String::as_str) {
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
        Some("--rotate") => rotated().map(|plant| vec![(plant, cheapest(plant))]),
        Some("--simulated") => named(&arguments[1..]).map(|plants| {
            plants.into_iter().filter_map(|plant| Some((plant, plant.simulated()?))).collect()
        }),
        _ => named(&arguments).map(|plants| plants.into_iter().map(by_test).collect()),
    };
    let everything = arguments.is_empty();
    let bad = chosen.and_then(|plants| plant_all(&plants)).map(|score| score.bad());
    code(bad.and_then(|bad| match everything {
        true => Ok(bad + look_for_sights()?),
        false => Ok(bad),
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
