//! Makes a write of another process shorter than it was to be, and ends the process before it knows: what a
//! power cut does to a write that is under way. Takes the right to trace, and an x86-64.

#![allow(unsafe_code)]

/// Whether that can be done here.
///
/// # Errors
/// With the reason why not.
pub(crate) fn available() -> Result<(), String> {
    match cfg!(target_arch = "x86_64") {
        true => Ok(()),
        false => Err("system calls are changed on x86-64 only".to_owned()),
    }
}

/// Waits until the node's log is written, lets only `shorter` of the bytes be written, and ends the
/// process with the call. Blocks; returns how many bytes are missing.
///
/// # Errors
/// When the process cannot be traced, or writes nothing.
#[cfg(target_arch = "x86_64")]
pub(crate) fn tear_a_write(
    process: u32,
    shorter: impl Fn(u64) -> Option<u64>,
) -> Result<u64, String> {
    x86_64::Traced::begin(process)?.tear(shorter)
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn tear_a_write(_: u32, _: impl Fn(u64) -> Option<u64>) -> Result<u64, String> {
    available().map(|()| 0)
}

#[cfg(target_arch = "x86_64")]
mod x86_64 {
    use std::fs;
    use std::io::Error;
    use std::mem::MaybeUninit;
    use std::ptr::null_mut;
    use std::time::{Duration, Instant};

    use libc::{c_int, c_long, c_uint, pid_t, user_regs_struct};

    /// The thread that writes the log.
    const WRITER: &str = "log-writer";
    const PATIENCE: Duration = Duration::from_secs(30);
    const LOOK_AGAIN: Duration = Duration::from_micros(200);
    /// What tells stops at system calls from others.
    const AT_CALL: c_int = libc::SIGTRAP | 0x80;

    /// One thread of a process, by the thread that calls this, and no other.
    pub(super) struct Traced {
        process: pid_t,
        thread: pid_t,
    }

    fn last_error(what: &str) -> String {
        format!("{what}: {}", Error::last_os_error())
    }

    fn writer(process: u32) -> Result<pid_t, String> {
        let tasks = fs::read_dir(format!("/proc/{process}/task")).map_err(|it| it.to_string())?;
        let is_writer = |task: &fs::DirEntry| {
            fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.trim() == WRITER)
        };
        let found = tasks.flatten().find(is_writer).ok_or("it has no thread that writes a log")?;
        found.file_name().to_string_lossy().parse().map_err(|_| "no thread id".to_owned())
    }

    impl Traced {
        pub(super) fn begin(process: u32) -> Result<Self, String> {
            let traced = Self { process: process as pid_t, thread: writer(process)? };
            traced.ask(libc::PTRACE_SEIZE, libc::PTRACE_O_TRACESYSGOOD as c_long)?;
            traced.ask(libc::PTRACE_INTERRUPT, 0)?;
            Ok(traced)
        }

        fn ask(&self, request: c_uint, data: c_long) -> Result<(), String> {
            // SAFETY: none of the requests that are made by this reads or writes memory of this process.
            let done = unsafe { libc::ptrace(request, self.thread, null_mut::<u8>(), data) };
            if done == -1 { Err(last_error("ptrace")) } else { Ok(()) }
        }

        /// What the thread stopped for, if it did: a signal. `Err` when it has ended.
        fn stopped(&self) -> Result<Option<c_int>, String> {
            let mut status = 0;
            // SAFETY: the status is written while this waits for it.
            let changed = unsafe {
                libc::waitpid(self.thread, &raw mut status, libc::__WALL | libc::WNOHANG)
            };
            match changed {
                0 => Ok(None),
                -1 => Err(last_error("waitpid")),
                _ if libc::WIFSTOPPED(status) => Ok(Some(libc::WSTOPSIG(status))),
                _ => Err("the process ended".to_owned()),
            }
        }

        fn until_stopped(&self, deadline: Instant) -> Result<c_int, String> {
            loop {
                if let Some(signal) = self.stopped()? {
                    return Ok(signal);
                }
                if Instant::now() > deadline {
                    return Err("nothing is written".to_owned());
                }
                std::thread::sleep(LOOK_AGAIN);
            }
        }

        fn registers(&self) -> Result<user_regs_struct, String> {
            let mut registers = MaybeUninit::<user_regs_struct>::uninit();
            let to = registers.as_mut_ptr();
            // SAFETY: the kernel writes the whole structure when it succeeds.
            unsafe {
                match libc::ptrace(libc::PTRACE_GETREGS, self.thread, null_mut::<u8>(), to) {
                    -1 => Err(last_error("registers")),
                    _ => Ok(registers.assume_init()),
                }
            }
        }

        fn set(&self, registers: &user_regs_struct) -> Result<(), String> {
            let from = std::ptr::from_ref(registers);
            // SAFETY: the kernel reads the structure, which outlives the call.
            let set =
                unsafe { libc::ptrace(libc::PTRACE_SETREGS, self.thread, null_mut::<u8>(), from) };
            if set == -1 { Err(last_error("registers")) } else { Ok(()) }
        }

        /// The next stop at a system call's begin or end.
        fn until_call(&self, deadline: Instant) -> Result<(), String> {
            loop {
                let signal = self.until_stopped(deadline)?;
                if signal == AT_CALL {
                    return Ok(());
                }
                // A signal is the thread's own; what ptrace itself stops for is none.
                let signal = if signal == libc::SIGTRAP { 0 } else { signal };
                self.ask(libc::PTRACE_SYSCALL, signal.into())?;
            }
        }

        pub(super) fn tear(self, shorter: impl Fn(u64) -> Option<u64>) -> Result<u64, String> {
            let deadline = Instant::now() + PATIENCE;
            loop {
                self.until_call(deadline)?;
                let mut registers = self.registers()?;
                let begins = registers.rax == -libc::c_longlong::from(libc::ENOSYS) as u64;
                let writes = registers.orig_rax == libc::SYS_pwrite64 as u64;
                if let Some(bytes) = shorter(registers.rdx).filter(|_| begins && writes) {
                    let missing = registers.rdx - bytes;
                    registers.rdx = bytes;
                    self.set(&registers)?;
                    self.ask(libc::PTRACE_SYSCALL, 0)?;
                    self.until_call(deadline)?;
                    let written = self.registers()?.rax;
                    return match written == bytes {
                        true => Ok(missing),
                        false => Err(format!("the write returned {}", written as i64)),
                    };
                }
                self.ask(libc::PTRACE_SYSCALL, 0)?;
            }
        }
    }

    impl Drop for Traced {
        fn drop(&mut self) {
            // SAFETY: a signal to a process that this one has started.
            unsafe { libc::kill(self.process, libc::SIGKILL) };
            // Its end is this thread's to take note of, or the process would stay.
            let begin = Instant::now();
            while self.stopped().is_ok() && begin.elapsed() < PATIENCE {
                std::thread::sleep(LOOK_AGAIN);
            }
        }
    }
}
