//! The number of CPUs that this thread, and threads it starts, may run on.

/// The CPUs of this thread's affinity mask, if the system reports it. A quota of CPU time does not count, because more threads may use it
/// up faster within its period.
pub(crate) fn in_affinity_mask() -> Option<usize> {
    #[cfg(target_os = "linux")]
    {
        /// As many words as the kernel can need: it has at most 8,192 CPUs.
        const WORDS: usize = 1024 / size_of::<std::ffi::c_ulong>();
        unsafe extern "C" {
            fn sched_getaffinity(pid: std::ffi::c_int, size: usize, mask: *mut std::ffi::c_ulong) -> std::ffi::c_int;
        }
        let mut mask: [std::ffi::c_ulong; WORDS] = [0; WORDS];
        // SAFETY: the declaration is that of <sched.h>; 0 is the calling thread, and `mask` has room for the bytes that are said.
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
