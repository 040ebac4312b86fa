//! Whole-system tests: namespaces, real processes, real packets.
