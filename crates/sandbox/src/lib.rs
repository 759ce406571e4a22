//! An execution environment as a Linux process: namespaces, cgroup, root file system, seccomp, network.
