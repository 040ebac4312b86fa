//! The kernel side as user space sees it: load, attach, pin, fill and read the programs and maps of persona-ebpf.

pub mod tables;
