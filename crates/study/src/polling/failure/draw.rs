//! Its chart: what each fault did at most, and what happened in the course of them.

use super::{AFTER_S, BEFORE_S, ELECTION_MS, Fault, LENGTH_S, RATE, Role, Run, Story};
use crate::plot::{Axis, Colour, Dash, Dot, Figure, Layer, Mark, Plot, Point, number as tick};
use crate::polling::stats::{mean, quantile};
use crate::polling::traffic::Outcome;
use crate::section::duration;

/// A part of the course of a fault.
const BIN_S: f64 = 0.5;

fn look(role: Role) -> (&'static str, Colour, Dash, Dot) {
    match role.long {
        true => ("long polls of 5 s", Colour::Blue, Dash::Solid, Dot::Circle),
        false => ("short polls every 0.1 s", Colour::Vermilion, Dash::Dashed, Dot::Square),
    }
}

/// In which part of the course of a fault something was, from [`BEFORE_S`] before it on.
fn bin(run: &Run, at_s: f64) -> Option<usize> {
    let since = at_s - run.span.0 + BEFORE_S;
    let bin = (since / BIN_S) as usize;
    (since >= 0.0 && bin < bins()).then_some(bin)
}

fn bins() -> usize {
    ((BEFORE_S + LENGTH_S + AFTER_S - BIN_S) / BIN_S) as usize
}

/// For each part of the course, a value of each fault.
type Courses = Vec<Vec<f64>>;

fn longest(story: &Story, role: Role) -> Courses {
    let mut courses = vec![Vec::new(); bins()];
    for run in &story.runs {
        let mut most = vec![f64::NAN; bins()];
        for one in run.line(role).into_iter().flat_map(|line| &line.seen.delivered) {
            if let Some(bin) = bin(run, one.due_s) {
                most[bin] = most[bin].max(one.ms);
            }
        }
        let known = most.into_iter().enumerate().filter(|(_, ms)| ms.is_finite());
        known.for_each(|(bin, ms)| courses[bin].push(ms));
    }
    courses
}

/// Per second.
fn answers(story: &Story, role: Role, counts: impl Fn(&Run, usize) -> bool) -> Courses {
    let mut courses = vec![Vec::new(); bins()];
    for run in &story.runs {
        let mut times = vec![0.0; bins()];
        let requests = run.line(role).map_or(&[][..], |line| &line.seen.requests);
        for (index, request) in requests.iter().enumerate() {
            if let Some(bin) = bin(run, request.end_s).filter(|_| counts(run, index)) {
                times[bin] += 1.0 / BIN_S;
            }
        }
        times.into_iter().enumerate().for_each(|(bin, rate)| courses[bin].push(rate));
    }
    courses
}

/// A value for each part, as a line of steps; the fault begins at nothing.
fn steps(courses: &Courses, value: impl Fn(&[f64]) -> f64) -> Vec<(f64, f64)> {
    let at = |bin: usize| bin as f64 * BIN_S - BEFORE_S;
    let step = |(bin, values): (usize, &Vec<f64>)| {
        let value = value(values);
        [(at(bin), value), (at(bin + 1), value)]
    };
    courses.iter().enumerate().flat_map(step).collect()
}

fn roles(victim: bool) -> impl Iterator<Item = Role> {
    Role::ALL.into_iter().filter(move |role| role.victim == victim)
}

fn place(victim: bool) -> &'static str {
    if victim { "the victim" } else { "a healthy node" }
}

/// Each fault's slowest message.
fn each(story: &Story, victim: bool) -> Plot {
    let mut layers = Vec::new();
    for (x, role) in roles(victim).enumerate() {
        let (name, colour, _, dot) = look(role);
        let faults = story.each(|run| run.slowest_ms(role));
        let count = faults.len() as f64;
        let beside = |index: usize| x as f64 + 0.12 + 0.3 * (index as f64 + 0.5) / count;
        let dots: Vec<Point> =
            faults.iter().enumerate().map(|(index, ms)| (beside(index), *ms).into()).collect();
        layers.push(Layer::new(name, colour, Mark::Dots(dot), dots));
        let median = story.slowest(role).at(x as f64 - 0.12);
        layers.push(Layer::new(
            "median of the faults",
            Colour::Black,
            Mark::Dots(Dot::Diamond),
            [median],
        ));
    }
    Plot::new(
        &format!("Each fault's slowest message, polled through {}", place(victim)),
        Axis::names("", ["long poll", "short polls"]),
        latency_axis(),
        layers,
    )
    // Its name is in the subtitle: beside the line it would hide faults.
    .rule(ELECTION_MS, String::new())
}

fn latency_axis() -> Axis {
    Axis::log("ms").range(0.8, 40_000.0).ticks_at(&[1., 10., 100., 1_000., 10_000.])
}

fn course(title: &str, victim: bool, y: Axis, lines: Vec<Layer>) -> Plot {
    let mut layers =
        vec![Layer::new("the fault lasts", Colour::Grey, Mark::Span, [(0.0, LENGTH_S)])];
    layers.extend(lines);
    let end = bins() as f64 * BIN_S - BEFORE_S;
    let mut x = Axis::linear("seconds since the fault began").range(-BEFORE_S, end);
    let times = (-1..).map(|i| f64::from(i) * 2.0).take_while(|at| *at <= end);
    x.ticks = times.map(|at| (at, tick(at))).collect();
    Plot::new(&format!("{title}, polled through {}", place(victim)), x, y, layers)
}

fn latencies(story: &Story, victim: bool) -> Plot {
    let mut lines = Vec::new();
    for role in roles(victim) {
        let (name, colour, dash, _) = look(role);
        let courses = longest(story, role);
        let median = steps(&courses, |values| quantile(values, 0.5));
        lines.push(Layer::new(name, colour, Mark::Line(dash), median));
        let worst = steps(&courses, |values| quantile(values, 1.0));
        lines.push(Layer::new("", colour, Mark::Line(Dash::Dotted), worst));
    }
    course("Longest latency (dotted: worst fault)", victim, latency_axis(), lines)
}

fn rates(
    story: &Story,
    title: &str,
    victim: bool,
    counts: &dyn Fn(Role, &Run, usize) -> bool,
) -> Plot {
    let most = Role::ALL
        .into_iter()
        .flat_map(|role| answers(story, role, |run, index| counts(role, run, index)))
        .map(|values| mean(&values).value)
        .fold(1.0, f64::max);
    let lines = roles(victim).map(|role| {
        let (name, colour, dash, _) = look(role);
        let courses = answers(story, role, |run, index| counts(role, run, index));
        let line = steps(&courses, |values| mean(values).value);
        Layer::new(name, colour, Mark::Line(dash), line)
    });
    let y = Axis::linear("per second").range(0.0, 1.1 * most);
    course(title, victim, y, lines.collect())
}

/// How long messages took.
pub(super) fn figure(story: &Story) -> Figure {
    let plots = [false, true].map(|victim| each(story, victim)).into_iter();
    let plots = plots.chain([false, true].map(|victim| latencies(story, victim)));
    let [long, ..] = Role::ALL;
    let title = format!(
        "{}: a long poll at another node waits {} for its slowest message, {} at worst",
        what(story),
        duration(story.slowest(long).value),
        duration(story.worst_ms(long))
    );
    let subtitle = format!(
        "{}; medians over the faults, by when messages were due; line: the longest election timeout, {ELECTION_MS} ms; bars: 95 % \
         confidence",
        load(story)
    );
    Figure::new(title, subtitle, plots.collect()).columns(2).height(150.0)
}

fn what(story: &Story) -> &'static str {
    match story.fault {
        Fault::Kill => "Kill -9",
        Fault::Partition => "Cut off",
    }
}

fn load(story: &Story) -> String {
    format!(
        "{} faults of {LENGTH_S} s, each node in turn; {RATE} messages per second and poller, sent through the two other nodes",
        story.runs.len()
    )
}

/// What answers said.
pub(super) fn answers_figure(story: &Story) -> Figure {
    let in_vain = |role: Role, run: &Run, index: usize| {
        run.line(role).is_some_and(|line| line.seen.is_in_vain(&line.seen.requests[index]))
    };
    let failed = |role: Role, run: &Run, index: usize| {
        run.line(role).is_some_and(|line| line.seen.requests[index].outcome == Outcome::Error)
    };
    let vain =
        [false, true].map(|victim| rates(story, "Empty with messages there", victim, &in_vain));
    let failures = [false, true].map(|victim| rates(story, "Failed receives", victim, &failed));
    let [long, short, long_victim, short_victim] = Role::ALL.map(|role| story.errors(role).value);
    let title = format!(
        "{}: at the victim {short_victim:.1} receives of a short poller fail and {long_victim:.1} of a long one, at another node {:.1}",
        what(story),
        long + short
    );
    let subtitle = format!("{}; means over the faults, by when answers came", load(story));
    Figure::new(title, subtitle, vain.into_iter().chain(failures).collect())
        .columns(2)
        .height(150.0)
}
