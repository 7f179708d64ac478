//! A call into the system's allocator. It is in this crate because calling C is `unsafe`: the service has no `unsafe`, and the engine has it only
//! where it maps files into memory.

/// Returns freed memory from the allocator to the operating system.
///
/// glibc keeps freed memory between blocks that are still in use, and at the end of each thread's arena. After requests of hundreds of
/// megabytes, most of that memory stays with glibc, and only this call returns it. It takes some milliseconds, during which other threads may
/// have to wait for the allocator. Other allocators return memory by themselves; with them this does nothing.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: the declaration is that of glibc's <malloc.h>; any thread may call it at any time, and it touches no memory in use. Its result,
        // whether any memory was returned, is not needed.
        unsafe {
            malloc_trim(0);
        }
    }
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    /// The bytes of this process's memory that are in RAM.
    fn resident() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
    }

    #[test]
    fn memory_between_blocks_in_use_is_given_back() {
        // 100 MB in blocks that are too small to be mapped by themselves; half of that is enough to show that memory was returned.
        let pieces: Vec<Vec<u8>> = (0..10_000).map(|_| vec![1; 10_000]).collect();
        // Keeps one block in a hundred, so that no region becomes free as a whole.
        let kept: Vec<Vec<u8>> = pieces.into_iter().step_by(100).collect();
        let before = resident();
        super::give_back();
        let after = resident();
        assert!(before > after + (50 << 20), "{before} {after}");
        assert!(kept.iter().flatten().all(|&byte| byte == 1));
    }
}
