//! Which system calls function code may make.
//!
//! An allow-list: a kernel gains calls every few months, and a call nobody has looked at must not
//! become reachable by upgrading the kernel. The list is what container engines allow by default,
//! known to run every language runtime, less what a function has no use for (tracing, reading
//! other processes' memory, NUMA placement, handles to files by number).
//!
//! What is not on the list answers `ENOSYS`, as on a kernel that lacks the call, so that libraries
//! fall back. This is also the fate of `clone3`, whose flags a filter cannot see (glibc then uses
//! `clone`, whose flags it can), and of `io_uring`, which would make calls behind the filter's
//! back. What is refused by policy answers `EPERM`, which a process without privileges expects.
//! A call with the ABI of another architecture kills the process: no runtime we know makes one.

mod program;

use program::{Action, Rule, Test};

pub use program::Filter;

/// Compiles the filter, in one piece.
#[cfg(test)]
pub fn filter() -> Filter {
    program::compile(actions(), Action::Errno(libc::ENOSYS))
}

/// What a process needs beyond the filter to become another one, until it has.
const FOR_THAWS: [i64; 3] = [libc::SYS_clone3, libc::SYS_setns, libc::SYS_unshare];

/// The filter, but for what a thaw needs. Together with [`late`] it is the whole filter: the kernel
/// asks both, and the stricter answer counts. Installing takes as long as the filter is large,
/// so that a process that waits to become a function gets the most of it ahead of time.
pub fn early() -> Filter {
    let mut actions = actions();
    actions.extend(FOR_THAWS.map(|number| (number, Action::Allow)));
    program::compile(actions, Action::Errno(libc::ENOSYS))
}

/// What is missing of the filter after [`early`].
pub fn late() -> Filter {
    let mut missing = FOR_THAWS
        .map(|number| (number, Action::Errno(libc::ENOSYS)))
        .to_vec();
    let known = actions().into_iter();
    missing.extend(known.filter(|(number, _)| FOR_THAWS.contains(number)));
    program::compile(missing, Action::Allow)
}

fn actions() -> Vec<(i64, Action)> {
    let mut actions: Vec<(i64, Action)> = Vec::new();
    actions.extend(
        ALLOWED
            .iter()
            .chain(ALLOWED_ARCH)
            .map(|number| (*number, Action::Allow)),
    );
    let refused = REFUSED.iter().chain(REFUSED_ARCH);
    actions.extend(refused.map(|number| (*number, Action::Errno(libc::EPERM))));
    actions.extend(narrowed().map(|(number, rules)| (number, Action::AllowUnless(rules))));
    actions
}

/// Calls allowed except with certain arguments. The kernel looks at the lower 32 bits of all the
/// arguments tested here but one, so that only those are compared; comparing more could be
/// sidestepped by setting bits that the kernel ignores.
fn narrowed() -> [(i64, Vec<Rule>); 6] {
    // Where programs on the host receive core dumps, only init's value keeps them from being
    // started. Programs that lower it to 0, for their own safety, are told that they did.
    let core = |resource| Rule {
        when: vec![Test::Equal(resource, libc::RLIMIT_CORE)],
        errno: 0,
    };
    let mut set_core = core(1);
    set_core.when.push(Test::NotNull(2));
    let eperm = |when| Rule {
        when,
        errno: libc::EPERM,
    };
    let harmless = [0, 0x0008, 0x0002_0000, 0x0002_0008, 0xffff_ffff];
    [
        (
            libc::SYS_clone,
            vec![eperm(vec![Test::AnyBit(0, NAMESPACES.cast_unsigned())])],
        ),
        // Both put characters into a terminal as if typed there.
        (
            libc::SYS_ioctl,
            vec![
                eperm(vec![Test::Equal(1, TIOCSTI)]),
                eperm(vec![Test::Equal(1, TIOCLINUX)]),
            ],
        ),
        (
            libc::SYS_personality,
            vec![eperm(
                harmless.map(|value| Test::Differs(0, value)).to_vec(),
            )],
        ),
        // Own limits only. Where all of an environment has one user id, init's could be lowered.
        (
            libc::SYS_prlimit64,
            vec![eperm(vec![Test::Differs(0, 0), Test::NotNull(2)]), set_core],
        ),
        (libc::SYS_setrlimit, vec![core(0)]),
        (libc::SYS_socket, sockets()),
    ]
}

/// Socket kinds that are refused: all but unix, IPv4, IPv6 and route netlink, and of those the
/// rare protocols, for which the kernel would load modules with a poor record.
fn sockets() -> Vec<Rule> {
    let rule = |when| Rule {
        when,
        errno: libc::EAFNOSUPPORT,
    };
    let family = |value: i32| Test::Equal(0, value.cast_unsigned());
    let not_family = |value: i32| Test::Differs(0, value.cast_unsigned());
    let not_protocol = |value: i32| Test::Differs(2, value.cast_unsigned());
    let internet = |value| {
        let mut when = vec![family(value)];
        when.extend(PROTOCOLS.map(not_protocol));
        rule(when)
    };
    vec![
        rule(FAMILIES.map(not_family).to_vec()),
        rule(vec![
            family(libc::AF_NETLINK),
            not_protocol(libc::NETLINK_ROUTE),
        ]),
        internet(libc::AF_INET),
        internet(libc::AF_INET6),
    ]
}

const FAMILIES: [i32; 4] = [
    libc::AF_UNIX,
    libc::AF_INET,
    libc::AF_INET6,
    libc::AF_NETLINK,
];
const PROTOCOLS: [i32; 6] = [
    libc::IPPROTO_IP,
    libc::IPPROTO_ICMP,
    libc::IPPROTO_TCP,
    libc::IPPROTO_UDP,
    libc::IPPROTO_ICMPV6,
    libc::IPPROTO_MPTCP,
];
const NAMESPACES: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET;
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541c;

// Numbers that are the same everywhere and that libc does not name on every architecture yet.
const SYS_CACHESTAT: i64 = 451;
const SYS_FCHMODAT2: i64 = 452;
const SYS_MAP_SHADOW_STACK: i64 = 453;
const SYS_FUTEX_WAKE: i64 = 454;
const SYS_FUTEX_WAIT: i64 = 455;
const SYS_FUTEX_REQUEUE: i64 = 456;
const SYS_MSEAL: i64 = 462;

/// What a function has no business with, and should hear so in plain words.
const REFUSED: &[i64] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_mbind,
    libc::SYS_migrate_pages,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_move_pages,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_set_mempolicy,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
];

#[cfg(target_arch = "x86_64")]
const REFUSED_ARCH: &[i64] = &[
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
];
#[cfg(not(target_arch = "x86_64"))]
const REFUSED_ARCH: &[i64] = &[];

/// What function code may call, besides what is narrowed above.
const ALLOWED: &[i64] = &[
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_brk,
    libc::SYS_capget,
    libc::SYS_capset,
    libc::SYS_chdir,
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_connect,
    libc::SYS_copy_file_range,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fadvise64,
    libc::SYS_fallocate,
    libc::SYS_fchdir,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    SYS_FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fcntl,
    libc::SYS_fdatasync,
    libc::SYS_fgetxattr,
    libc::SYS_flistxattr,
    libc::SYS_flock,
    libc::SYS_fremovexattr,
    libc::SYS_fsetxattr,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_futex,
    SYS_FUTEX_REQUEUE,
    SYS_FUTEX_WAIT,
    libc::SYS_futex_waitv,
    SYS_FUTEX_WAKE,
    libc::SYS_get_mempolicy,
    libc::SYS_get_robust_list,
    SYS_CACHESTAT,
    libc::SYS_getcpu,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getitimer,
    libc::SYS_getpeername,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrlimit,
    libc::SYS_getrusage,
    libc::SYS_getsid,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_gettid,
    libc::SYS_gettimeofday,
    libc::SYS_getuid,
    libc::SYS_getxattr,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    libc::SYS_io_cancel,
    libc::SYS_io_destroy,
    libc::SYS_io_getevents,
    libc::SYS_io_setup,
    libc::SYS_io_submit,
    libc::SYS_ioprio_get,
    libc::SYS_ioprio_set,
    libc::SYS_kill,
    libc::SYS_landlock_add_rule,
    libc::SYS_landlock_create_ruleset,
    libc::SYS_landlock_restrict_self,
    libc::SYS_lgetxattr,
    libc::SYS_linkat,
    libc::SYS_listen,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_lremovexattr,
    libc::SYS_lseek,
    libc::SYS_lsetxattr,
    libc::SYS_madvise,
    SYS_MAP_SHADOW_STACK,
    libc::SYS_membarrier,
    libc::SYS_memfd_create,
    libc::SYS_mincore,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_mlockall,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mq_getsetattr,
    libc::SYS_mq_notify,
    libc::SYS_mq_open,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_timedsend,
    libc::SYS_mq_unlink,
    libc::SYS_mremap,
    SYS_MSEAL,
    libc::SYS_msgctl,
    libc::SYS_msgget,
    libc::SYS_msgrcv,
    libc::SYS_msgsnd,
    libc::SYS_msync,
    libc::SYS_munlock,
    libc::SYS_munlockall,
    libc::SYS_munmap,
    libc::SYS_name_to_handle_at,
    libc::SYS_nanosleep,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_pipe2,
    libc::SYS_pkey_alloc,
    libc::SYS_pkey_free,
    libc::SYS_pkey_mprotect,
    libc::SYS_ppoll,
    libc::SYS_prctl,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_process_mrelease,
    libc::SYS_pselect6,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
    libc::SYS_read,
    libc::SYS_readahead,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmmsg,
    libc::SYS_recvmsg,
    libc::SYS_remap_file_pages,
    libc::SYS_removexattr,
    libc::SYS_renameat2,
    libc::SYS_restart_syscall,
    libc::SYS_rseq,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getattr,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_rr_get_interval,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_yield,
    libc::SYS_seccomp,
    libc::SYS_semctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_sendfile,
    libc::SYS_sendmmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_setfsgid,
    libc::SYS_setfsuid,
    libc::SYS_setgid,
    libc::SYS_setgroups,
    libc::SYS_setitimer,
    libc::SYS_setpgid,
    libc::SYS_setpriority,
    libc::SYS_setregid,
    libc::SYS_setresgid,
    libc::SYS_setresuid,
    libc::SYS_setreuid,
    libc::SYS_setsid,
    libc::SYS_setsockopt,
    libc::SYS_setuid,
    libc::SYS_setxattr,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_shmdt,
    libc::SYS_shmget,
    libc::SYS_shutdown,
    libc::SYS_sigaltstack,
    libc::SYS_signalfd4,
    libc::SYS_socketpair,
    libc::SYS_splice,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_symlinkat,
    libc::SYS_sync,
    libc::SYS_sync_file_range,
    libc::SYS_syncfs,
    libc::SYS_sysinfo,
    libc::SYS_tee,
    libc::SYS_tgkill,
    libc::SYS_timer_create,
    libc::SYS_timer_delete,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_gettime,
    libc::SYS_timer_settime,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_gettime,
    libc::SYS_timerfd_settime,
    libc::SYS_times,
    libc::SYS_tkill,
    libc::SYS_truncate,
    libc::SYS_umask,
    libc::SYS_uname,
    libc::SYS_unlinkat,
    libc::SYS_utimensat,
    libc::SYS_vmsplice,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_write,
    libc::SYS_writev,
];

/// The calls that newer architectures have dropped in favour of their `at` forms.
#[cfg(target_arch = "x86_64")]
const ALLOWED_ARCH: &[i64] = &[
    libc::SYS_access,
    libc::SYS_alarm,
    libc::SYS_arch_prctl,
    libc::SYS_chmod,
    libc::SYS_chown,
    libc::SYS_creat,
    libc::SYS_dup2,
    libc::SYS_epoll_create,
    libc::SYS_epoll_ctl_old,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_wait_old,
    libc::SYS_eventfd,
    libc::SYS_fork,
    libc::SYS_futimesat,
    libc::SYS_getdents,
    libc::SYS_getpgrp,
    libc::SYS_inotify_init,
    libc::SYS_lchown,
    libc::SYS_link,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_mknod,
    libc::SYS_open,
    libc::SYS_pause,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_rmdir,
    libc::SYS_select,
    libc::SYS_signalfd,
    libc::SYS_stat,
    libc::SYS_symlink,
    libc::SYS_time,
    libc::SYS_unlink,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_vfork,
];
#[cfg(target_arch = "aarch64")]
const ALLOWED_ARCH: &[i64] = &[libc::SYS_renameat];

#[cfg(test)]
mod tests {
    use super::program::run;
    use super::*;

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;

    fn errno(value: i32) -> u32 {
        libc::SECCOMP_RET_ERRNO | value.cast_unsigned()
    }

    fn answer(number: i64, args: [u64; 6]) -> u32 {
        run(&filter(), program::ARCH, number, args)
    }

    fn flag(value: i32) -> u64 {
        u64::from(value.cast_unsigned())
    }

    #[test]
    fn every_list_entry_gets_its_answer() {
        for number in ALLOWED.iter().chain(ALLOWED_ARCH) {
            assert_eq!(answer(*number, [1; 6]), ALLOW, "{number}");
        }
        for number in REFUSED.iter().chain(REFUSED_ARCH) {
            assert_eq!(answer(*number, [0; 6]), errno(libc::EPERM), "{number}");
        }
    }

    #[test]
    fn both_parts_together_are_the_whole() {
        let (whole, early, late) = (filter(), early(), late());
        let arguments = [0, 1, 4, 16, 0x10000, 0x1000_0000, 0x7e02_0000, u64::MAX];
        for number in 0..1024 {
            for first in arguments {
                for second in arguments {
                    let args = [first, second, 7, 0, 0, 0];
                    let ask = |filter| program::run(filter, program::ARCH, number, args);
                    // Of two answers that are equally strict the kernel takes the later filter's.
                    let both = match ask(&late) {
                        libc::SECCOMP_RET_ALLOW => ask(&early),
                        answer => answer,
                    };
                    assert_eq!(both, ask(&whole), "call {number} with {args:x?}");
                }
            }
        }
        assert!(late.len() < 32, "{} steps", late.len());
        for part in [early, late] {
            let foreign = program::run(&part, 0x4000_0003, 0, [0; 6]);
            assert_eq!(foreign, libc::SECCOMP_RET_KILL_PROCESS);
        }
    }

    #[test]
    fn what_nobody_has_looked_at_does_not_exist() {
        let unknown = [
            libc::SYS_clone3,
            libc::SYS_io_uring_setup,
            libc::SYS_io_uring_enter,
            libc::SYS_io_uring_register,
            900,
            i64::from(u32::MAX),
            0x4000_0000 + libc::SYS_read,
        ];
        for number in unknown {
            assert_eq!(answer(number, [0; 6]), errno(libc::ENOSYS), "{number}");
        }
    }

    #[test]
    fn another_architecture_is_fatal() {
        let answer = run(&filter(), program::ARCH ^ 1, libc::SYS_read, [0; 6]);
        assert_eq!(answer, libc::SECCOMP_RET_KILL_PROCESS);
    }

    #[test]
    fn processes_may_be_made_but_not_in_new_namespaces() {
        let thread = flag(libc::CLONE_VM | libc::CLONE_THREAD | libc::CLONE_SIGHAND);
        assert_eq!(answer(libc::SYS_clone, [thread, 0, 0, 0, 0, 0]), ALLOW);
        for namespace in [libc::CLONE_NEWUSER, libc::CLONE_NEWNS, libc::CLONE_NEWNET] {
            for flags in [
                flag(namespace),
                flag(namespace) | thread,
                flag(namespace) | 1 << 40,
            ] {
                let args = [flags, 0, 0, 0, 0, 0];
                assert_eq!(
                    answer(libc::SYS_clone, args),
                    errno(libc::EPERM),
                    "{flags:x}"
                );
            }
        }
    }

    #[test]
    fn only_common_sockets_can_be_made() {
        let socket = |family, kind, protocol| {
            answer(
                libc::SYS_socket,
                [flag(family), flag(kind), flag(protocol), 0, 0, 0],
            )
        };
        for family in [
            libc::AF_UNIX,
            libc::AF_INET,
            libc::AF_INET6,
            libc::AF_NETLINK,
        ] {
            assert_eq!(socket(family, libc::SOCK_STREAM, 0), ALLOW, "{family}");
        }
        assert_eq!(
            socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDP),
            ALLOW
        );
        let no = errno(libc::EAFNOSUPPORT);
        for family in [
            libc::AF_PACKET,
            libc::AF_ALG,
            libc::AF_VSOCK,
            libc::AF_BLUETOOTH,
            44,
        ] {
            assert_eq!(socket(family, libc::SOCK_STREAM, 0), no, "{family}");
        }
        assert_eq!(
            socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_NETFILTER),
            no
        );
        assert_eq!(
            socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
            no
        );
        let high_bits = 1 << 32 | flag(libc::AF_PACKET);
        assert_eq!(answer(libc::SYS_socket, [high_bits, 3, 0, 0, 0, 0]), no);
    }

    #[test]
    fn arguments_that_reach_beyond_the_process_are_refused() {
        let eperm = errno(libc::EPERM);
        assert_eq!(
            answer(libc::SYS_ioctl, [0, u64::from(TIOCSTI), 0, 0, 0, 0]),
            eperm
        );
        assert_eq!(
            answer(
                libc::SYS_ioctl,
                [0, 1 << 32 | u64::from(TIOCSTI), 0, 0, 0, 0]
            ),
            eperm
        );
        assert_eq!(answer(libc::SYS_ioctl, [0, 0x5401, 0, 0, 0, 0]), ALLOW);
        assert_eq!(answer(libc::SYS_prlimit64, [1, 7, 0, 5, 0, 0]), ALLOW);
        assert_eq!(answer(libc::SYS_prlimit64, [0, 7, 5, 5, 0, 0]), ALLOW);
        assert_eq!(answer(libc::SYS_prlimit64, [1, 7, 5, 5, 0, 0]), eperm);
        assert_eq!(answer(libc::SYS_prlimit64, [1, 7, 1 << 32, 5, 0, 0]), eperm);
        let pretended = errno(0);
        assert_eq!(answer(libc::SYS_prlimit64, [0, 4, 5, 0, 0, 0]), pretended);
        assert_eq!(answer(libc::SYS_prlimit64, [0, 4, 0, 5, 0, 0]), ALLOW);
        assert_eq!(answer(libc::SYS_setrlimit, [4, 5, 0, 0, 0, 0]), pretended);
        assert_eq!(answer(libc::SYS_setrlimit, [7, 5, 0, 0, 0, 0]), ALLOW);
        assert_eq!(
            answer(libc::SYS_personality, [0xffff_ffff, 0, 0, 0, 0, 0]),
            ALLOW
        );
        assert_eq!(
            answer(libc::SYS_personality, [0x0040_0000, 0, 0, 0, 0, 0]),
            eperm
        );
    }
}
