//! The command line: see [`trivec::cli`].

fn main() -> std::process::ExitCode {
    trivec::cli::main()
}
