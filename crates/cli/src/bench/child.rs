//! Measurements that need a fresh process: starts this program again.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use super::super::args::ModelArgs;
use super::super::exit::{BUSY, Failure, INPUT, MODEL, Result, USAGE};
use super::machine::Machine;

/// How many cold starts are timed; their median is reported.
const STARTS: usize = 7;

/// What is measured in fresh processes: the median cold start, and the peak memory of a process that embeds 1 x 128 tokens.
pub(super) struct Start {
    pub cold_start_ms: f64,
    pub peak_rss_mb: f64,
}

/// The variable of this program that a child process inherits. All others stand for options, and a child gets its options as arguments.
const INHERITED: &str = "TRIVEC_HOME";

/// Whether an environment variable gives an option of this program its value, so that no child process may inherit it. Some systems do not
/// tell upper and lower case apart in such names.
fn is_option(variable: &str) -> bool {
    let begins = variable.get(.."TRIVEC_".len()).is_some_and(|start| start.eq_ignore_ascii_case("TRIVEC_"));
    begins && !variable.eq_ignore_ascii_case(INHERITED)
}

/// A command that runs this program again with the options of `args` for kernels, threads, loading and colours, and with no others. Its
/// standard output is a pipe.
fn program(args: &ModelArgs) -> Result<Command> {
    let program = std::env::current_exe().map_err(|e| Failure::io("this program", &e))?;
    let mut command = Command::new(program);
    command.arg("--quiet").stdout(Stdio::piped()).stderr(Stdio::inherit());
    for (name, _) in std::env::vars_os().filter(|(name, _)| is_option(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command.args(["--color", args.color.name()]);
    if let Some(isa) = &args.isa {
        command.args(["--isa", isa]);
    }
    if let Some(threads) = args.threads {
        command.args(["--threads", &threads.to_string()]);
    }
    if let Some(tune) = args.tune {
        command.args(["--tune", tune.name()]);
    }
    if args.no_check {
        command.arg("--no-check");
    }
    if args.preload {
        command.arg("--preload");
    }
    Ok(command)
}

fn failed(e: impl std::fmt::Display) -> Failure {
    Failure::io("a process of the bench", &std::io::Error::other(e.to_string()))
}

/// The failure for a process that ended too soon. If its exit code is one of this program's, it has said why on stderr, and this program
/// ends with the same code; any other end is an I/O error.
fn ended(status: std::process::ExitStatus) -> Failure {
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(code @ (USAGE | INPUT | MODEL | BUSY)) => {
            Failure::Message { code, message: "a process of the bench ended for the reason above".to_owned() }
        }
        _ => failed(format!("it ended with {status}")),
    }
}

/// Measures the machine's limits in a process of its own (`bench --probe`).
pub(super) fn probe(args: &ModelArgs) -> Result<Machine> {
    let output = program(args)?.args(["bench", "--probe"]).output().map_err(failed)?;
    if !output.status.success() {
        return Err(ended(output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(failed)
}

/// A child process with a pipe to its standard input and one from its standard output.
struct Pipes {
    child: Child,
    answers: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Pipes {
    fn open(mut command: Command) -> Result<Pipes> {
        let mut child = command.stdin(Stdio::piped()).spawn().map_err(failed)?;
        let stdout = child.stdout.take().ok_or_else(|| failed("no pipe"))?;
        Ok(Pipes { child, answers: BufReader::new(stdout).lines() })
    }

    /// Writes a request to the process.
    fn ask(&mut self, request: &str) -> Result<()> {
        let stdin = self.child.stdin.as_mut().ok_or_else(|| failed("no pipe"))?;
        match stdin.write_all(request.as_bytes()).and_then(|()| stdin.flush()) {
            // The process has ended; the next call of `answer` reports how.
            Err(e) if e.kind() == ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(failed),
        }
    }

    /// The next line that the process prints, or the failure for a process that has ended.
    fn answer(&mut self) -> Result<String> {
        match self.answers.next() {
            Some(answer) => answer.map_err(failed),
            None => Err(ended(self.child.wait().map_err(failed)?)),
        }
    }

    fn close(mut self) -> Result<()> {
        drop(self.child.stdin.take());
        self.child.wait().map_err(failed)?;
        Ok(())
    }
}

/// Measures the cold start (from the start of an `embed` process to its first vector) and the peak memory (of a `bench --worker` process that
/// embeds 1 x 128 tokens three times).
pub(super) fn start(model: &Path, args: &ModelArgs) -> Result<Start> {
    let mut times = Vec::new();
    // The first start is not counted: it warms the page cache.
    for run in 0..=STARTS {
        let mut command = program(args)?;
        command.args(["embed", "--input-format", "jsonl", "--batch-size", "1", "--model"]).arg(model);
        let begin = Instant::now();
        let mut pipes = Pipes::open(command)?;
        pipes.ask("{\"input_ids\":[0,10,20,30,40,50,60,2]}\n")?;
        pipes.answer()?;
        if run > 0 {
            times.push(begin.elapsed().as_secs_f64() * 1e3);
        }
        pipes.close()?;
    }
    times.sort_by(f64::total_cmp);
    let mut command = program(args)?;
    command.args(["bench", "--worker", "--model"]).arg(model);
    let mut pipes = Pipes::open(command)?;
    pipes.answer()?;
    pipes.ask("{\"shape\":[1,128],\"runs\":3}\n")?;
    let answer: serde_json::Value = serde_json::from_str(&pipes.answer()?).map_err(failed)?;
    pipes.close()?;
    Ok(Start {
        cold_start_ms: super::shapes::percentile(&times, 0.5),
        peak_rss_mb: answer["peak_rss_mb"].as_f64().unwrap_or(0.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_inherits_no_variable_of_an_option() {
        for option in
            ["TRIVEC_OUTPUT", "TRIVEC_MODEL", "TRIVEC_X", "TRIVEC_", "trivec_output", "TRIVEC_HOME_", "Trivec_ISA"]
        {
            assert!(is_option(option), "{option}");
        }
        for other in
            ["TRIVEC_HOME", "trivec_home", "TRIVEC", "PATH", "HF_HOME", "NO_COLOR", "", "XTRIVEC_OUTPUT", "ÄÄÄÄÄÄÄ"]
        {
            assert!(!is_option(other), "{other}");
        }
    }
}
