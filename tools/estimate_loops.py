#!/usr/bin/env python3
"""What llvm-mca says about the inner loops of the kernels, on processors that nobody here has. Estimates, no measurements.

    estimate_loops.py LLVM_MCA DISASSEMBLY CPU...

reads what `objdump -d -C --no-show-raw-insn` prints of libtrivec_kernels.rlib, as check_spills/judge.py does. For every instruction set
in it and every kernel of int8 or int4 products, the loops of the largest tile go through llvm-mca with the model of each CPU. A step is
one trip of such a loop; where it has branches within, all its instructions are taken to run. A kernel may have several, compiled for
different ends of the same work: the table has the fastest, and the slowest of them beside it. The peak is what the same model gives to the loop's product instructions alone, each with an accumulator of its
own: no loads, nothing to wait for. llvm-mca assumes that every load hits the first-level cache, that branches are foreseen, and that
instructions arrive as fast as the core can take them.
"""

import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "check_spills"))
import judge  # noqa: E402

# Multiply-adds of bytes that an instruction does, in a register of 16 (AArch64) or 32 bytes (x86). vpmaddwd only adds up what
# vpmaddubsw multiplied.
PRODUCTS = {"sdot": 16, "usdot": 16, "udot": 16, "smmla": 32, "usmmla": 32, "smull": 8, "smull2": 8, "smlal": 8, "smlal2": 8}
X86_PRODUCTS = {"vpdpbusd": 32, "vpmaddubsw": 32}
KERNELS = ("linear_i8", "linear_i4")
# Sets whose code an estimate is asked for.
SETS = ("NEON", "NEON_DOT", "NEON_I8MM", "AVX2", "AVX_VNNI")
# Cores that do not have the products of matrices of bytes.
WITHOUT_I8MM = ("cortex-a55", "neoverse-n1", "apple-m1")
ITERATIONS = 200


def loops_of(lines):
    """Of each set and kernel, the innermost loops with the most byte products: how many, and their instructions."""
    arm = any("file format" in line and "aarch64" in line for line in lines[:20])
    products, best = (PRODUCTS if arm else X86_PRODUCTS), {}
    # In x86 listings a comment follows `#`; in those of AArch64 a number does, and the assembler takes it without.
    for function in judge.functions(line.replace("#", "") for line in lines) if arm else judge.functions(lines):
        if function.kernel not in KERNELS or function.table not in SETS:
            continue
        machine = (judge.Arm if arm else judge.X86)(function.code)
        blocks, successors = judge.blocks_of(function.code, machine)
        works = [sum(machine.multiplies(*function.code[i][1:]) for i in block) for block in blocks]
        for body in judge.innermost(set(range(len(blocks))), successors, works):
            code = [function.code[i][1:] for b in sorted(body) for i in blocks[b]]
            count = sum(products.get(mnemonic, 0) for mnemonic, _ in code)
            most, loops = best.get((function.table, function.kernel), (1, []))
            if count > most:
                loops = []
            if count >= most:
                best[function.table, function.kernel] = count, [*loops, code]
    return arm, products, best


def as_source(code, arm):
    """Assembler's text of a loop's instructions; its branch goes to a label, since addresses mean nothing here."""
    lines = []
    for mnemonic, operands in code:
        operands = re.sub(r"<[^>]*>", "", operands).strip()
        if mnemonic.startswith(("j", "b.", "cb", "tb")) or mnemonic == "b":
            operands = ", ".join([*operands.split(",")[:-1], ".Lloop"])
        if mnemonic.startswith("vpdp") and not arm:
            mnemonic = "{vex} " + mnemonic
        lines.append(f"  {mnemonic} {operands}")
    return ".Lloop:\n" + "\n".join(lines) + "\n"


def peak_source(code, arm, products):
    """The loop's product instructions (with the additions that a product without dot products needs), each on registers of its own."""
    partners = {"sadalp", "uadalp", "vpmaddwd", "saddlp"}
    chosen = [m for m, _ in code if m in products or m in partners]
    lines = []
    for index, mnemonic in enumerate(chosen):
        sum_register = index % (24 if arm else 12)
        if not arm:
            form = "{vex} vpdpbusd" if mnemonic == "vpdpbusd" else mnemonic
            lines.append(f"  {form} %ymm14, %ymm15, %ymm{sum_register}")
        elif mnemonic in ("sadalp", "uadalp", "saddlp"):
            lines.append(f"  {mnemonic} v{sum_register}.4s, v30.8h")
        elif mnemonic.startswith(("smull", "smlal")):
            lanes = "16b" if mnemonic.endswith("2") else "8b"
            lines.append(f"  {mnemonic} v{sum_register}.8h, v30.{lanes}, v31.{lanes}")
        else:
            lines.append(f"  {mnemonic} v{sum_register}.4s, v30.16b, v31.16b")
    return "\n".join(lines) + "\n"


def cycles(mca, source, cpu, arm):
    triple = "aarch64-linux-gnu" if arm else "x86_64-linux-gnu"
    features = ["-mattr=+dotprod,+i8mm"] if arm else []
    command = [mca, f"-mtriple={triple}", f"-mcpu={cpu}", f"-iterations={ITERATIONS}", "--instruction-info=false", *features]
    run = subprocess.run(command, input=source, capture_output=True, text=True)
    found = re.search(r"^Total Cycles:\s+(\d+)", run.stdout, re.MULTILINE)
    if run.returncode or not found:
        sys.exit(f"llvm-mca -mcpu={cpu}: {run.stderr.strip()[:500]}")
    return int(found[1]) / ITERATIONS


def main(arguments):
    if len(arguments) < 3:
        return __doc__
    mca, listing, *cpus = arguments
    arm, products, best = loops_of(Path(listing).read_text().splitlines())
    if not best:
        return f"{listing}: no loops of byte products"
    print("Estimates by llvm-mca, not measurements: cycles of one trip of the inner loop, multiply-adds a cycle, share of the core's peak.\n")
    print("| set | kernel | CPU model | multiply-adds a step | loops | cycles a step | slowest | multiply-adds a cycle | peak | share |")
    print("|---|---|---|---:|---:|---:|---:|---:|---:|---:|")
    for (table, kernel), (count, loops) in sorted(best.items()):
        for cpu in cpus:
            if table == "NEON_I8MM" and cpu in WITHOUT_I8MM:
                continue
            steps = [cycles(mca, as_source(code, arm), cpu, arm) for code in loops]
            code = loops[steps.index(min(steps))]
            step, least = min(steps), cycles(mca, peak_source(code, arm, products), cpu, arm)
            rates = f"{count / step:.1f} | {count / least:.1f} | {100 * least / step:.0f} %"
            print(f"| {table} | {kernel} | {cpu} | {count} | {len(loops)} | {step:.1f} | {max(steps):.1f} | {rates} |")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
