//! What the process asks of the kernel for itself: no core dump, no foreign look into its memory, enough descriptors,
//! and no more memory than it needs.
//!
//! Secrets and tokens are in memory for as long as the process runs. Here is what keeps them from a file that a crash
//! writes and from other processes of the same user. Swap is the platform's to switch off (deploy/).

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Keeps the process's memory to itself: no core dump, now or later, and (on Linux) no debugger and no
/// `/proc/PID/mem` or `/proc/PID/environ` for other processes of the same user. Programs that it starts get no core
/// dumps either.
///
/// # Errors
/// When the kernel refuses, as a seccomp filter may have it do.
pub fn keep_memory_private() -> io::Result<()> {
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    Ok(())
}

/// Raises the limit of open files as far as it may be raised and tells how many there can be; none: no end is known.
#[must_use]
pub fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        // Less than hoped for, and no reason not to start.
        Err(_) => limit.current,
    }
}

/// Does `work` in a thread of its own and waits for it: for what needs far more memory than its result. The allocator
/// gives back to the system what a thread has freed when the thread ends; one that goes on would keep it.
pub fn apart<T: Send>(work: impl Fn() -> T + Send + Sync) -> T {
    std::thread::scope(|scope| match std::thread::Builder::new().spawn_scoped(scope, &work) {
        Ok(working) => working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
        Err(_) => work(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_core_is_dumped_and_the_limit_stays() {
        keep_memory_private().unwrap();
        let core = getrlimit(Resource::Core);
        assert_eq!((core.current, core.maximum), (Some(0), Some(0)));
        #[cfg(target_os = "linux")]
        assert_eq!(rustix::process::dumpable_behavior().unwrap(), rustix::process::DumpableBehavior::NotDumpable);
    }

    #[test]
    fn the_limit_of_open_files_is_as_high_as_it_may_be() {
        let known = raise_open_files();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!((limit.current, limit.maximum), (known, known));
    }
}
