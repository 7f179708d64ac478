//! The number of CPUs that this thread, and threads it starts, may run on.

/// The number of CPUs in this thread's affinity mask, if the system reports it. A quota of CPU time (of a control group) is not looked at: until it
/// is used up, all CPUs of the mask can work at once, so more threads are still faster.
pub(crate) fn in_affinity_mask() -> Option<usize> {
    #[cfg(target_os = "linux")]
    {
        /// The length of a mask of 8,192 CPUs, the most that Linux supports.
        const WORDS: usize = 1024 / size_of::<std::ffi::c_ulong>();
        unsafe extern "C" {
            fn sched_getaffinity(pid: std::ffi::c_int, size: usize, mask: *mut std::ffi::c_ulong) -> std::ffi::c_int;
        }
        let mut mask: [std::ffi::c_ulong; WORDS] = [0; WORDS];
        // SAFETY: the declaration is that of <sched.h>; 0 is the calling thread, and `mask` has room for as many bytes as the call names.
        let failed = unsafe { sched_getaffinity(0, size_of_val(&mask), mask.as_mut_ptr()) } != 0;
        let cpus = mask.iter().map(|word| word.count_ones() as usize).sum();
        (!failed && cpus > 0).then_some(cpus)
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #[test]
    fn the_mask_is_what_the_kernel_reports() {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed:")).unwrap();
        let bits = mask.chars().filter_map(|digit| digit.to_digit(16)).map(u32::count_ones).sum::<u32>();
        assert_eq!(super::in_affinity_mask(), Some(bits as usize));
    }
}
