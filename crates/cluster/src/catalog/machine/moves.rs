//! Tasks that move dead letters: what is decided about them.

use flotilla_types::ids::{CommandId, QueueId, TaskId};
use flotilla_types::limits::{MOVE_TASKS_LISTED_MAX, MOVE_TASKS_MAX};

use super::{Change, Machine, Reply};
use crate::api::{MoveStatus, MoveTask};
use crate::catalog::tasks::{MoveReport, StartMove, Task};

impl Machine {
    /// Tasks that have not ended.
    pub(crate) fn active_tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.values().filter(|task| task.is_active())
    }

    /// The tasks of a queue, newest first.
    pub(crate) fn tasks_of(&self, source: QueueId) -> Vec<&Task> {
        let mut tasks: Vec<_> = self.tasks.values().filter(|task| task.source == source).collect();
        tasks.sort_by_key(|task| std::cmp::Reverse((task.shown.started_ms, task.shown.id)));
        tasks
    }

    pub(super) fn start_move(&mut self, start: &StartMove, changes: &mut Vec<Change>) -> Reply {
        if self.tasks.contains_key(&start.task) {
            return Reply::Done;
        }
        let name = |id| self.by_id(id).map(|entry| entry.queue.name.clone());
        let Some(source) = name(start.source) else { return Reply::NotFound };
        let destination = start.destination.map(name);
        if destination == Some(None) {
            return Reply::NotFound;
        }
        if self.sources.list(&source, None, 1).is_empty() {
            return Reply::NotDeadLetterQueue;
        }
        if self.active_tasks().any(|task| task.source == start.source) {
            return Reply::TaskRunning;
        }
        if self.active_tasks().count() >= MOVE_TASKS_MAX {
            return Reply::TooMany;
        }
        let old = self.tasks_of(start.source).into_iter().skip(MOVE_TASKS_LISTED_MAX - 1);
        for id in old.map(|task| task.shown.id).collect::<Vec<_>>() {
            self.tasks.remove(&id);
            changes.push(Change::Task(id));
        }
        let shown = MoveTask {
            id: start.task,
            source,
            destination: destination.flatten(),
            rate: start.rate,
            status: MoveStatus::Running,
            failure: None,
            moved: 0,
            to_move: start.to_move,
            started_ms: self.clock_ms,
        };
        let StartMove { source, destination, .. } = *start;
        self.tasks.insert(start.task, Task { shown, source, destination, cancelled_by: None });
        changes.push(Change::Task(start.task));
        Reply::Done
    }

    pub(super) fn report_move(&mut self, report: &MoveReport, changes: &mut Vec<Change>) -> Reply {
        let Some(task) = self.tasks.get_mut(&report.task) else { return Reply::NotFound };
        if !task.is_active() {
            return Reply::Done;
        }
        let shown = &mut task.shown;
        shown.moved = shown.moved.max(report.moved);
        (shown.status, shown.failure) = match (report.end, shown.status) {
            (None, status) => (status, None),
            (Some(Ok(())), MoveStatus::Cancelling) => (MoveStatus::Cancelled, None),
            (Some(Ok(())), _) => (MoveStatus::Completed, None),
            (Some(Err(failure)), _) => (MoveStatus::Failed, Some(failure)),
        };
        changes.push(Change::Task(report.task));
        Reply::Done
    }

    pub(super) fn cancel_move(
        &mut self,
        id: TaskId,
        command: Option<CommandId>,
        changes: &mut Vec<Change>,
    ) -> Reply {
        let Some(task) = self.tasks.get_mut(&id) else { return Reply::NotFound };
        let is_repeated = command.is_some() && task.cancelled_by == command;
        if !is_repeated && task.shown.status != MoveStatus::Running {
            return Reply::TaskNotRunning;
        }
        if !is_repeated {
            task.shown.status = MoveStatus::Cancelling;
            task.cancelled_by = command;
            changes.push(Change::Task(id));
        }
        Reply::Moved(task.shown.moved)
    }

    /// Of a queue that is gone.
    pub(super) fn drop_tasks(&mut self, source: QueueId, changes: &mut Vec<Change>) {
        self.tasks.retain(|id, task| {
            let keep = task.source != source;
            if !keep {
                changes.push(Change::Task(*id));
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use flotilla_types::attributes::{AttributePatch, PatchFor};
    use flotilla_types::names::QueueName;

    use super::super::Command;
    use super::*;
    use crate::api::MoveFailure;
    use crate::catalog::tasks::{task_from_row, task_to_row};

    struct Bench {
        machine: Machine,
        now_ms: u64,
        counter: u64,
    }

    impl Bench {
        /// Queues 1 `dead`, 2 `source` of it, 3 `other`.
        fn new() -> Bench {
            let mut bench = Bench { machine: Machine::default(), now_ms: 1_000, counter: 0 };
            for (name, dead) in [("dead", None), ("source", Some("dead")), ("other", None)] {
                bench.create(name, dead);
            }
            bench
        }

        fn apply(&mut self, command: Command) -> Reply {
            self.counter += 1;
            let id = Some(CommandId { session: 1, counter: self.counter });
            self.apply_as(id, command)
        }

        fn apply_as(&mut self, id: Option<CommandId>, command: Command) -> Reply {
            self.now_ms += 1;
            let mut changes = Vec::new();
            let reply = self.machine.apply(self.now_ms, id, command, &mut changes);
            for task in self.machine.tasks.values() {
                let row = task_to_row(task, 1).into();
                assert_eq!(task_from_row(row).unwrap(), (1, task.clone()));
            }
            reply
        }

        fn create(&mut self, name: &str, dead: Option<&str>) {
            let policy = dead.map(|dead| {
                let arn = format!("arn:aws:sqs:r:0:{dead}");
                format!("{{\"deadLetterTargetArn\":\"{arn}\",\"maxReceiveCount\":1}}")
            });
            let pairs = policy.iter().map(|policy| ("RedrivePolicy", policy.as_str()));
            let attributes = AttributePatch::parse(pairs, PatchFor::Create).unwrap();
            let name = QueueName::new(name).unwrap();
            self.apply(Command::CreateQueue { name, attributes, tags: None, at_once: false });
        }

        fn start(&mut self, task: u8, source: u64, destination: Option<u64>) -> Reply {
            self.apply(Command::StartMove(StartMove {
                task: TaskId([task; 16]),
                source: QueueId(source),
                destination: destination.map(QueueId),
                rate: Some(5),
                to_move: 9,
            }))
        }

        fn report(&mut self, task: u8, moved: u64, end: Option<Result<(), MoveFailure>>) -> Reply {
            self.apply(Command::ReportMove(MoveReport { task: TaskId([task; 16]), moved, end }))
        }

        fn shown(&self, task: u8) -> &MoveTask {
            &self.machine.tasks[&TaskId([task; 16])].shown
        }
    }

    #[test]
    fn one_task_at_a_time_for_a_dead_letter_queue() {
        let mut bench = Bench::new();
        assert_eq!(bench.start(1, 9, None), Reply::NotFound);
        assert_eq!(bench.start(1, 1, Some(9)), Reply::NotFound);
        assert_eq!(bench.start(1, 3, None), Reply::NotDeadLetterQueue);
        assert_eq!(bench.start(1, 1, Some(3)), Reply::Done);
        assert_eq!(bench.start(1, 1, Some(3)), Reply::Done, "its answer was lost");
        assert_eq!(bench.start(2, 1, None), Reply::TaskRunning);
        bench.report(1, 4, None);
        bench.report(1, 3, None);
        assert_eq!((bench.shown(1).status, bench.shown(1).moved), (MoveStatus::Running, 4));
        bench.report(1, 9, Some(Ok(())));
        assert_eq!((bench.shown(1).status, bench.shown(1).moved), (MoveStatus::Completed, 9));
        assert_eq!(bench.start(2, 1, None), Reply::Done);
        let failure = MoveFailure::NoSource;
        bench.report(2, 0, Some(Err(failure)));
        bench.report(2, 7, Some(Ok(())));
        assert_eq!(
            (bench.shown(2).status, bench.shown(2).failure),
            (MoveStatus::Failed, Some(failure))
        );
        let listed: Vec<_> =
            bench.machine.tasks_of(QueueId(1)).iter().map(|task| task.shown.id.0[0]).collect();
        assert_eq!(listed, [2, 1]);
    }

    #[test]
    fn a_hundred_tasks_at_a_time() {
        let mut bench = Bench::new();
        assert_eq!(bench.start(1, 1, None), Reply::Done);
        // The three of the bench have the first numbers, then each dead-letter queue comes before its source.
        for task in 2..=101 {
            bench.create(&format!("dead-{task}"), None);
            bench.create(&format!("source-{task}"), Some(&format!("dead-{task}")));
            let dead = 4 + 2 * (u64::from(task) - 2);
            let expected = if task <= 100 { Reply::Done } else { Reply::TooMany };
            assert_eq!(bench.start(task, dead, None), expected, "{task}");
        }
        bench.report(50, 0, Some(Ok(())));
        assert_eq!(bench.start(101, 202, None), Reply::Done, "one has ended");
    }

    #[test]
    fn a_task_is_cancelled_once() {
        let mut bench = Bench::new();
        bench.start(1, 1, None);
        bench.report(1, 2, None);
        let cancel = || Command::CancelMove(TaskId([1; 16]));
        let id = Some(CommandId { session: 2, counter: 1 });
        assert_eq!(bench.apply_as(id, cancel()), Reply::Moved(2));
        assert_eq!(bench.shown(1).status, MoveStatus::Cancelling);
        assert_eq!(bench.apply_as(id, cancel()), Reply::Moved(2), "its answer was lost");
        assert_eq!(bench.apply(cancel()), Reply::TaskNotRunning);
        bench.report(1, 3, Some(Ok(())));
        assert_eq!((bench.shown(1).status, bench.shown(1).moved), (MoveStatus::Cancelled, 3));
        assert_eq!(bench.apply(Command::CancelMove(TaskId([9; 16]))), Reply::NotFound);
    }

    #[test]
    fn old_tasks_are_forgotten_and_all_with_their_queue() {
        let mut bench = Bench::new();
        for task in 1..=15 {
            assert_eq!(bench.start(task, 1, None), Reply::Done);
            bench.report(task, 0, Some(Ok(())));
        }
        assert_eq!(bench.machine.tasks.len(), MOVE_TASKS_LISTED_MAX);
        assert!(!bench.machine.tasks.contains_key(&TaskId([5; 16])));
        bench.apply(Command::DeleteQueue { queue: QueueId(1) });
        assert!(bench.machine.tasks.is_empty());
    }
}
