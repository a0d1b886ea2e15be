//! Clients and a service in simulated time: a heap of moments.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use flotilla_history::record::*;
use flotilla_history::{Bounds, Header, Op, Options, Outcome, Promises, Record};

use super::Bug;
use super::client::{Client, Role, on_queue, pending};
use super::dice::Dice;
use super::service::{MOVE_HIDES_US, Service, WALL_ZERO_MS};

const MS: u64 = 1_000;
const SECOND: u64 = 1_000_000;
/// A long poll looks again after this.
const LOOK_US: u64 = 5 * MS;
/// Everything works again so soon after a fault.
const LIVENESS_US: u64 = 2 * SECOND;

/// What a world is like.
#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub bug: Option<Bug>,
    pub seconds: u64,
    /// Chances in percent that an answer is lost, and that a request is refused.
    pub info: u64,
    pub fail: u64,
    /// Chance in percent that a receive hides messages that it does not bring, and says so.
    pub lost: u64,
    pub redrive: bool,
    pub moves: bool,
    pub retention_s: u64,
    pub fifo_delay_s: u64,
    pub limit: usize,
    /// How many times slower than usual clients are.
    pub slower: u64,
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            bug: None,
            seconds: 20,
            info: 8,
            fail: 3,
            lost: 3,
            redrive: true,
            moves: true,
            retention_s: 345_600,
            fifo_delay_s: 0,
            limit: 100_000,
            slower: 1,
        }
    }
}

struct Pending {
    client: usize,
    op: Op,
    inv: u64,
    /// For a long poll: until when it looks.
    until: u64,
    done: bool,
    /// Its client hears nothing.
    lost: bool,
}

enum Event {
    Wake(usize),
    Effect(usize),
    Return(usize),
    GiveUp(usize),
}

pub struct World {
    pub header: Header,
    pub records: Vec<Record>,
    pub fired: u32,
    /// The fault that is there, and when one was healed last.
    fault: bool,
    healed: Option<u64>,
    heals: u32,
    plan: Plan,
    dice: Dice,
    service: Service,
    clients: Vec<Client>,
    pending: Vec<Pending>,
    events: BinaryHeap<Reverse<(u64, usize)>>,
    table: Vec<Event>,
    now: u64,
}

impl World {
    /// Runs it to its end.
    pub fn run(plan: Plan) -> Self {
        let promises = Promises {
            tells_all: true,
            short_polls_for_all: Some(2),
            fifo_moves_hide_us: Some(MOVE_HIDES_US),
            in_flight_max: Some(plan.limit as u64),
            ..Promises::default()
        };
        let bounds = Bounds { liveness_us: LIVENESS_US, counts_us: 0, ..Bounds::exact() };
        let options = Options { bounds, promises, ..Options::default() };
        let header = Header { wall_zero_ms: Some(WALL_ZERO_MS), options, ..Header::default() };
        let service = Service::new(plan.seed, plan.bug, plan.limit, plan.lost);
        let dice = Dice::new(plan.seed.wrapping_mul(31));
        let mut world = Self {
            header,
            records: Vec::new(),
            fired: 0,
            fault: false,
            healed: None,
            heals: 0,
            plan,
            dice,
            service,
            clients: Vec::new(),
            pending: Vec::new(),
            events: BinaryHeap::new(),
            table: Vec::new(),
            now: SECOND,
        };
        world.create_queues();
        world.add_clients();
        world.run_events();
        world.drain();
        world.fired += world.service.fired;
        world
    }

    fn attributes(&self, queue: &str) -> BTreeMap<String, String> {
        let mut attributes: BTreeMap<String, String> =
            [("VisibilityTimeout".to_owned(), "2".to_owned())].into();
        let mut set = |name: &str, value: String| attributes.insert(name.to_owned(), value);
        let policy = |target: &str, count: u32| {
            let arn = format!("arn:aws:sqs:us-east-1:000000000000:{target}");
            format!("{{\"deadLetterTargetArn\":\"{arn}\",\"maxReceiveCount\":{count}}}")
        };
        match queue {
            "orders" if self.plan.redrive => {
                set("RedrivePolicy", policy("orders-dead", 2));
            }
            "lines.fifo" if self.plan.redrive => {
                set("RedrivePolicy", policy("lines-dead.fifo", 1));
            }
            "plain" => {
                set("MessageRetentionPeriod", self.plan.retention_s.to_string());
            }
            "steps.fifo" if self.plan.fifo_delay_s > 0 => {
                set("DelaySeconds", self.plan.fifo_delay_s.to_string());
            }
            _ => {}
        }
        attributes
    }

    fn create_queues(&mut self) {
        let names = [
            "orders",
            "orders-dead",
            "plain",
            "tidy",
            "temp",
            "lines.fifo",
            "lines-dead.fifo",
            "steps.fifo",
            "turns.fifo",
        ];
        for queue in names {
            let attributes = self.attributes(queue);
            let queue = queue.to_owned();
            let result = pending();
            self.at_once(0, Op::CreateQueue(WithAttributes { queue, attributes, result }));
        }
    }

    fn add_clients(&mut self) {
        let fifo = ["lines.fifo", "steps.fifo", "turns.fifo"];
        for queue in ["orders", "plain", "tidy", "temp"].into_iter().chain(fifo) {
            for _ in 0..2 {
                let role = Role::Producer { last: None, dedups: Vec::new() };
                self.add_client(queue, role, 400 * MS, true);
            }
            for number in 0..2 {
                self.add_consumer(queue, 120 * MS, number == 0);
            }
        }
        self.add_consumer("orders-dead", 700 * MS, true);
        self.add_consumer("lines-dead.fifo", 400 * MS, true);
        self.add_client("tidy", Role::Purger, 5 * SECOND, false);
        self.add_client("temp", Role::Recreator, 2 * SECOND, false);
        self.add_client("turns.fifo", Role::Purger, 5 * SECOND, false);
        self.add_client("turns.fifo", Role::Recreator, 3 * SECOND, false);
        self.add_client("plain", Role::Reader, 600 * MS, false);
        self.add_client("plain", Role::Stranger { handles: Vec::new() }, SECOND, false);
        if self.plan.moves && self.plan.redrive {
            self.add_client("orders-dead", Role::Mover, 4 * SECOND, false);
            self.add_client("lines-dead.fifo", Role::Mover, 3 * SECOND, false);
        }
    }

    fn add_consumer(&mut self, queue: &str, pause_us: u64, waits: bool) {
        let role = Role::Consumer { handles: Vec::new(), old: Vec::new(), attempt: None };
        self.add_client(queue, role, pause_us, waits);
    }

    fn add_client(&mut self, queue: &str, role: Role, pause_us: u64, waits: bool) {
        let process = self.clients.len() as u32 + 1;
        let pause_us = pause_us * self.plan.slower;
        let attributes = self.attributes(queue);
        let (node, queue) = (process % 3 + 1, queue.to_owned());
        let client = Client { process, node, queue, role, counter: 0, pause_us, attributes, waits };
        self.clients.push(client);
        let at = self.now + SECOND + self.dice.below(pause_us);
        self.at(at, Event::Wake(self.clients.len() - 1));
    }

    fn at(&mut self, at: u64, event: Event) {
        self.events.push(Reverse((at, self.table.len())));
        self.table.push(event);
    }

    fn run_events(&mut self) {
        let end = self.now + self.plan.seconds * SECOND;
        // At a quarter, and at three quarters: a node is gone, comes back, and is well again.
        let mut phases: Vec<(u64, FaultPhase)> = Vec::new();
        for from in [end / 4, end / 4 * 3] {
            let healed = from + (end / 20).min(3 * SECOND);
            phases.push((from, FaultPhase::Fired));
            phases.push((healed, FaultPhase::Healed));
            phases.push((healed + 200 * MS, FaultPhase::Ready));
        }
        phases.reverse();
        while let Some(Reverse((at, event))) = self.events.pop() {
            self.now = at;
            while let Some((_, phase)) = phases.pop_if(|phase| phase.0 <= at) {
                self.enter(phase);
            }
            match self.table[event] {
                Event::Wake(client) if at < end => self.wake(client),
                Event::Wake(_) => {}
                Event::Effect(number) => self.effect(number),
                Event::Return(number) => self.answer(number),
                Event::GiveUp(number) => self.answer(number),
            }
        }
    }

    fn enter(&mut self, phase: FaultPhase) {
        self.fault = phase == FaultPhase::Fired;
        self.service.fault = self.fault;
        if phase == FaultPhase::Healed {
            self.healed = Some(self.now);
            self.heals += 1;
        }
        let op = Op::Fault(Fault { name: "kill".to_owned(), nodes: vec![2], phase });
        self.record(0, 0, self.now, self.now, op);
    }

    fn wake(&mut self, client: usize) {
        let inv = self.now;
        let node = self.clients[client].node;
        let mut op = self.clients[client].next(&mut self.dice);
        let until = match &op {
            Op::Receive(receive) => inv + receive.wait_ms.unwrap_or(0) * MS,
            _ => inv,
        };
        let stuck = node == 2
            && match self.plan.bug {
                Some(Bug::NeverRecovers) => self.heals > 1,
                Some(Bug::RecoversLate) => self.heals == 1 && !self.fault,
                _ => false,
            };
        self.fired += u32::from(stuck);
        // What fails although everything is healed would be a finding.
        let recovers = self.healed.is_some_and(|healed| inv < healed + LIVENESS_US);
        let lost = stuck || (!recovers && self.dice.percent(self.plan.info));
        let number = self.pending.len();
        let effect = inv + self.dice.between(200, 5 * MS);
        if self.dice.percent(self.plan.fail) && !stuck {
            let ghost = self.plan.bug == Some(Bug::Ghost) && matches!(op, Op::Send(_));
            if ghost {
                self.fired += 1;
                self.service.now = inv;
                self.service.serve(&mut op.clone());
            }
            refuse(&mut op);
            self.pending.push(Pending { client, op, inv, until, done: true, lost: false });
            return self.at(effect, Event::Return(number));
        }
        let pending = Pending { client, op, inv, until, done: false, lost };
        self.pending.push(pending);
        if !lost {
            return self.at(effect, Event::Effect(number));
        }
        // It may be done, at once or late, or never.
        match self.dice.below(3) {
            0 => self.at(effect, Event::Effect(number)),
            1 => {
                let late = inv + self.dice.between(5 * MS, 2 * SECOND);
                self.at(late, Event::Effect(number));
            }
            _ => {}
        }
        let patience = self.dice.between(50 * MS, SECOND);
        self.at(inv + patience, Event::GiveUp(number));
    }

    fn effect(&mut self, number: usize) {
        self.service.now = self.now;
        let mut op = self.pending[number].op.clone();
        self.service.serve(&mut op);
        let row = &mut self.pending[number];
        if row.lost {
            return;
        }
        // What an earlier look hid is still hidden.
        if let (Op::Receive(before), Op::Receive(now)) = (&mut row.op, &mut op) {
            before.lost |= now.lost;
            now.lost = before.lost;
            if now.lost && matches!(now.result, Outcome::Fail(_)) {
                now.result = pending();
            }
        }
        let empty = matches!(&op, Op::Receive(it) if matches!(&it.result, Outcome::Ok(it) if it.is_empty()));
        if empty && self.now < row.until {
            return self.at(self.now + LOOK_US, Event::Effect(number));
        }
        row.op = op;
        row.done = true;
        let waited = self.now - row.inv > SECOND;
        let mut back = self.now + self.dice.between(200, 5 * MS);
        if waited && self.service.strikes(Bug::PollTooLong, 100) {
            back += 20 * SECOND;
        }
        self.at(back, Event::Return(number));
    }

    fn answer(&mut self, number: usize) {
        let Pending { client, op, inv, .. } = &self.pending[number];
        let (client, op, inv) = (*client, op.clone(), *inv);
        let (process, node) = (self.clients[client].process, self.clients[client].node);
        let mut op = op;
        if !self.pending[number].done {
            unanswered(&mut op);
        }
        self.clients[client].learn(&op, &mut self.dice);
        if let Op::Receive(Receive { result: Outcome::Ok(delivered), .. }) = &op {
            let handles = delivered.iter().map(|it| it.handle.clone());
            let handles: Vec<String> = handles.filter(|_| self.dice.percent(5)).collect();
            for client in &mut self.clients {
                if let Role::Stranger { handles: more } = &mut client.role {
                    let foreign = handles.iter().filter(|it| !it.starts_with("plain|"));
                    more.extend(foreign.cloned());
                }
            }
        }
        self.record(process, node, inv, self.now, op);
        let pause = self.clients[client].pause_us;
        let at = self.now + 1 + self.dice.below(pause);
        self.at(at, Event::Wake(client));
    }

    fn record(&mut self, process: u32, node: u32, invoked_us: u64, returned_us: u64, op: Op) {
        // Of refusals all are the client's own fault.
        let (status, request_id) = (Some(400), None);
        self.records.push(Record {
            process,
            node,
            invoked_us,
            returned_us,
            status,
            request_id,
            op,
        });
    }

    fn at_once(&mut self, process: u32, mut op: Op) -> Op {
        let inv = self.now;
        self.now += MS;
        self.service.now = self.now;
        self.service.serve(&mut op);
        self.now += MS;
        self.record(process, 1, inv, self.now, op.clone());
        op
    }

    fn drain(&mut self) {
        self.now += 30 * SECOND;
        self.service.lost = 0;
        let now = self.now;
        self.record(0, 0, now, now, Op::Mark(Mark::DrainBegan));
        // A queue before that of its dead letters.
        let queues = ["orders", "plain", "tidy", "temp", "lines.fifo", "steps.fifo", "turns.fifo"];
        for queue in queues.into_iter().chain(["orders-dead", "lines-dead.fifo"]) {
            self.drain_queue(queue);
        }
        let now = self.now;
        self.record(0, 0, now, now, Op::Mark(Mark::DrainEnded { complete: true }));
    }

    fn drain_queue(&mut self, queue: &str) {
        let mut empties = 0;
        while empties < 3 && self.now < 1_000 * SECOND {
            let receive = Receive {
                queue: queue.to_owned(),
                max: 10,
                wait_ms: Some(0),
                visibility_ms: None,
                attempt: None,
                lost: false,
                unheard: Vec::new(),
                result: pending(),
            };
            let Op::Receive(receive) = self.at_once(900, Op::Receive(receive)) else { return };
            let delivered = receive.result.ok().cloned().unwrap_or_default();
            if delivered.is_empty() {
                empties += 1;
                continue;
            }
            empties = 0;
            let entries = delivered
                .into_iter()
                .map(|it| DeleteEntry { handle: it.handle, result: pending() });
            let entries: Vec<DeleteEntry> = entries.collect();
            let queue = queue.to_owned();
            self.at_once(900, Op::Delete(Delete { queue, entries, answered: None }));
        }
        self.at_once(900, Op::GetAttributes(on_queue(queue)));
    }
}

/// Every entry is certainly not done.
fn refuse(op: &mut Op) {
    fn no<T>() -> Outcome<T> {
        Outcome::Fail("ServiceUnavailable".to_owned())
    }
    match op {
        Op::Send(op) => op.entries.iter_mut().for_each(|it| it.result = no()),
        Op::Receive(op) => op.result = no(),
        Op::Delete(op) => op.entries.iter_mut().for_each(|it| it.result = no()),
        Op::Change(op) => op.entries.iter_mut().for_each(|it| it.result = no()),
        Op::Purge(op) | Op::DeleteQueue(op) => op.result = no(),
        Op::CreateQueue(op) | Op::SetAttributes(op) => op.result = no(),
        Op::GetAttributes(op) => op.result = no(),
        Op::StartMove(op) => op.result = no(),
        Op::ListMoves(op) => op.result = no(),
        Op::CancelMove(op) => op.result = no(),
        Op::Fault(_) | Op::Mark(_) => {}
    }
    unanswered(op);
}

fn unanswered(op: &mut Op) {
    match op {
        Op::Send(Send { answered, .. }) | Op::Delete(Delete { answered, .. }) => *answered = None,
        _ => {}
    }
}
