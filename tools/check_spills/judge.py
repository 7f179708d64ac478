#!/usr/bin/env python3
"""Finds vector registers that are kept on the stack in the inner loops of the kernels.

    judge.py [--all] DISASSEMBLY...

reads what `objdump -d -C --no-show-raw-insn` prints of libtrivec_kernels.rlib (x86-64 or AArch64) and looks at the functions that
`dispatch.rs` compiles, one a kernel and instruction set (`trivec_kernels::dispatch::AVX2::linear_i8`). An inner loop is a natural loop
of a function's control flow with multiply instructions, and without a smaller loop that has some. In it, a load or a store of a vector
register whose address is relative to the stack pointer (or to the frame pointer, where a function has one) is a spill: the compiler
had more values at hand than registers.

Prints a table of the loops with spills (`--all`: of all loops), a line of totals for each set, and ends with 1 if a loop has more spills
than ALLOWED says, or if a kernel that must have inner loops has none.
"""
import re
import sys
from collections import defaultdict

BLOCKS = "the sums of a block and the sums over all blocks are two tiles, and no set has registers for both at full size: one goes through the stack"
SIXTEEN = "eight vectors that are rotated against each other are sixteen registers"
SIDE_BY_SIDE = "exponentials of four vectors, eight registers, side by side, so that they do not wait for their own steps"
EIGHT = "eight rows in two streams, for which memory takes longer"
OPEN = "24 sums, 4 registers of weights and what a product without VNNI needs of its own: not mended yet"
ERF = "the error function of a vector, with twenty constants"
ARM = "open: as seen in a listing of 2026-11-30; nobody has had a machine to measure it on, and it may not become worse"
# Loops that may write vectors to the stack and read them back: kernel, set, and whether most of their multiplies are products of bytes. How often
# for each multiply, and why. Each limit leaves a third more than was seen, because builds of the same code differ a little. Of int8,
# int4, f16, bf16 and f32 products only what follows their sums stands here, one loop that waits for memory, and those that are open.
ALLOWED = {
    ("linear_q4_0", "AVX2", True): (1.43, BLOCKS + "; in the order of the code fewer do, and it is no faster (EXPERIMENTS.md)"),
    ("linear_q4_0", "AVX_VNNI", True): (0.26, BLOCKS),
    ("linear_q4_0", "AVX512", True): (0.39, BLOCKS),
    ("linear_q4_0", "AVX512_VNNI", True): (0.39, BLOCKS),
    ("linear_q4_0", "AMX", True): (0.39, BLOCKS),
    ("linear_q4_0", "AMX", False): (0.13, BLOCKS),
    ("attend", "AVX2", False): (0.72, SIDE_BY_SIDE),
    ("attend_int", "AVX2", False): (0.59, SIDE_BY_SIDE),
    ("attend_int", "AVX_VNNI", False): (0.59, SIDE_BY_SIDE),
    ("attend_int", "AVX2", True): (0.33, "two of eight sums, which wait for nothing: a step takes longer than the stack does"),
    ("quantize_row", "AVX2", False): (0.91, SIXTEEN),
    ("quantize_row", "AVX_VNNI", False): (0.91, SIXTEEN),
    ("gelu", "AVX2", False): (0.13, ERF),
    ("pack_int", "AVX2", False): (0.52, "sums of bytes, once a token"),
    ("pack_int", "AVX_VNNI", False): (0.52, "sums of bytes, once a token"),
    ("linear_i4", "AVX2", False): (0.13, "the polynomial of GELU after a tile's sums"),
    ("linear_i4", "AVX_VNNI", False): (0.13, "the polynomial of GELU after a tile's sums"),
    ("linear_i8", "AVX512", True): (1.0, OPEN),
    ("linear_i4", "AVX512", True): (1.0, OPEN),
    ("attend_int", "AVX512", True): (1.0, OPEN),
    ("linear_i8", "AVX512_VNNI", True): (0.6, EIGHT),
    ("linear_i8", "AMX", True): (0.6, EIGHT),
    ("linear_i8", "AVX2", False): (0.21, "the polynomial of GELU after a tile's sums"),
    ("linear_i8", "AVX_VNNI", False): (0.13, "the polynomial of GELU after a tile's sums"),
    ("attend_int", "NEON", False): (0.91, ARM),
    ("attend_int", "NEON", True): (0.63, ARM),
    ("gelu", "NEON", False): (0.19, ARM),
    ("linear_bf16", "NEON", False): (0.09, ARM),
    ("linear_q4_0", "NEON", True): (0.21, ARM),
    ("linear_i4", "NEON", False): (0.21, ARM),
    ("linear_i4", "NEON", True): (1.13, ARM),
    ("linear_i8", "NEON", False): (0.28, ARM),
    ("linear_i8", "NEON", True): (1.83, ARM),
    ("pack_int", "NEON", False): (1.17, ARM),
    ("probe", "NEON", True): (0.67, ARM),
    ("attend_int", "NEON_DOT", False): (0.77, ARM),
    ("attend_int", "NEON_DOT", True): (0.34, ARM),
    ("linear_i4", "NEON_DOT", False): (0.22, ARM),
    ("linear_i8", "NEON_DOT", False): (0.18, ARM),
    ("linear_i8", "NEON_DOT", True): (1.33, ARM),
    ("pack_int", "NEON_DOT", False): (1.17, ARM),
    ("attend_int", "NEON_I8MM", False): (0.91, ARM),
    ("attend_int", "NEON_I8MM", True): (1.00, ARM),
    ("linear_q4_0", "NEON_I8MM", False): (0.46, ARM),
    ("linear_q4_0", "NEON_I8MM", True): (0.31, ARM),
    ("linear_i4", "NEON_I8MM", False): (0.18, ARM),
    ("linear_i4", "NEON_I8MM", True): (0.12, ARM),
    ("linear_i8", "NEON_I8MM", False): (0.18, ARM),
    ("linear_i8", "NEON_I8MM", True): (0.12, ARM),
    ("pack_int", "NEON_I8MM", False): (1.17, ARM),
}

# How many values that the loop does not write it may read from the stack for each multiply instruction: they are as constants that lie in
# memory, at the price of a load, and nothing waits for them.
MOST_READS = 1 / 3

# Kernels of which every set must have an inner loop with multiplies: else the judge has not seen what it is to judge.
PRODUCTS = [
    "linear", "linear_i8", "linear_i4", "linear_q4_0", "linear_f16", "linear_bf16", "attend", "attend_int", "layer_norm",
    "add_layer_norm", "quantize_row", "gelu", "gelu_fast",
]

NAME = re.compile(r"^[0-9a-f]+ <(?:[\w.]+::)*dispatch::([A-Z0-9_]+)::(\w+?)(?:::h[0-9a-f]{16})?>:$")
LABEL = re.compile(r"^[0-9a-f]+ <.*>:$")
# Relocations, which are printed as lines of their own, have no mnemonic in small letters. AVX-VNNI's instructions begin with `{vex}`.
INSTRUCTION = re.compile(r"^\s+([0-9a-f]+):\s+(?:(?:{vex}|notrack|bnd) )*([a-z].*)$")

X86_MULTIPLY = re.compile(
    r"v?(pdpbusds?|pdpwssds?|pmaddubsw|pmaddwd|pmulld|pmullw|pmulhw|f(n?m)(add|sub)\w*|dpbf16ps|mul[ps][sd]|fmadd\w*)$|tdp\w+$"
)
BYTES = re.compile(r"v?(pdpbusds?|pmaddubsw|pmaddwd)$|tdp\w+$|[su]dot$|usdot$|[su]mmla$|usmmla$|[su]mull2?$")
ARM_MULTIPLY = re.compile(r"(fml[as]|fmul|[su]dot|usdot|[su]mmla|usmmla|ml[as]|mul|[su]mlal2?|[su]mull2?|bfdot|bfmmla)$")
X86_VECTOR = re.compile(r"%[xyz]mm\d+")
ARM_VECTOR = re.compile(r"\b[qdsv]\d+\b")


class Function:
    """A kernel's instructions: (address, mnemonic, operands)."""

    def __init__(self, table, kernel):
        self.table, self.kernel = table, kernel
        self.code = []


def functions(lines):
    """The kernels' functions in a disassembly."""
    current = None
    for line in lines:
        if LABEL.match(line):
            if current is not None:
                yield current
            found = NAME.match(line)
            current = Function(*found.groups()) if found else None
        elif current is not None and (found := INSTRUCTION.match(line)):
            # A comment begins with `# ` on x86-64 and `//` on AArch64, where `#` alone marks a number, as in `[sp, #16]`.
            mnemonic, *operands = re.split(r"# |//|\t#", found[2])[0].split(None, 1)
            current.code.append((int(found[1], 16), mnemonic, "".join(operands).strip()))
    if current is not None:
        yield current


class X86:
    """What the judge must know of x86-64, in the AT&T notation that objdump prints."""

    def __init__(self, code):
        # A frame pointer is one that is set from the stack pointer; else `rbp` is a register as any other.
        framed = any(m == "mov" and o.replace(" ", "") == "%rsp,%rbp" for _, m, o in code[:40])
        # An address with an index is an array's, which the code has meant to lie in memory.
        self.stack = re.compile(r"[-0-9a-fx]*\(%r(sp|bp)\)" if framed else r"[-0-9a-fx]*\(%rsp\)")

    def flow(self, mnemonic, operands):
        """(target or None, whether what follows may run next) of a branch; None of other instructions."""
        if mnemonic in ("ret", "retq", "ud2", "hlt", "int3"):
            return None, False
        if mnemonic.startswith("j") and mnemonic not in ("jmp", "jmpq"):
            return address_of(operands), True
        if mnemonic in ("jmp", "jmpq"):
            return (None if "*" in operands else address_of(operands)), False
        return None

    def multiplies(self, mnemonic, operands):
        return bool(X86_MULTIPLY.match(mnemonic))

    def on_stack(self, mnemonic, operands):
        """The place on the stack that a vector is written to or read from, and whether it is written."""
        found = self.stack.search(operands)
        if not found or not X86_VECTOR.search(operands):
            return None
        return found[0], found.end() == len(operands)


class Arm:
    """The same of AArch64."""

    def __init__(self, code):
        framed = any(m in ("mov", "add") and re.match(r"x29, ?sp", o) for _, m, o in code[:40])
        self.stack = re.compile(r"\[(sp|x29)(\]|, ?#-?\w+\])" if framed else r"\[sp(\]|, ?#-?\w+\])")

    def flow(self, mnemonic, operands):
        if mnemonic in ("ret", "udf", "brk"):
            return None, False
        if mnemonic == "b":
            return address_of(operands), False
        if mnemonic == "br":
            return None, False
        if mnemonic.startswith("b.") or mnemonic in ("cbz", "cbnz", "tbz", "tbnz"):
            return address_of(operands.split(",")[-1]), True
        return None

    def multiplies(self, mnemonic, operands):
        return bool(ARM_MULTIPLY.match(mnemonic)) and bool(ARM_VECTOR.search(operands))

    def on_stack(self, mnemonic, operands):
        found = self.stack.search(operands)
        if not found or not mnemonic.startswith(("ld", "st")) or not ARM_VECTOR.search(operands):
            return None
        # A pair's second place is not told apart from its first: both are written, or both are read.
        return found[0], mnemonic.startswith("st")


def address_of(operand):
    found = re.match(r"\s*([0-9a-f]+)\b", operand)
    return int(found[1], 16) if found else None


def blocks_of(code, machine):
    """Basic blocks as ranges of instructions, and the successors of each."""
    index = {address: i for i, (address, _, _) in enumerate(code)}
    flows = [machine.flow(m, o) for _, m, o in code]
    starts = {0}
    for i, flow in enumerate(flows):
        if flow is not None:
            starts.add(i + 1)
            if flow[0] in index:
                starts.add(index[flow[0]])
    starts = sorted(s for s in starts if s < len(code))
    block_of = {start: b for b, start in enumerate(starts)}
    blocks, successors = [], []
    for b, start in enumerate(starts):
        end = starts[b + 1] if b + 1 < len(starts) else len(code)
        flow = flows[end - 1]
        next_blocks = []
        if flow is None or flow[1]:
            next_blocks += [block_of[end]] if end in block_of else []
        if flow is not None and flow[0] in index:
            next_blocks.append(block_of[index[flow[0]]])
        blocks.append(range(start, end))
        successors.append(next_blocks)
    return blocks, successors


def cycles(blocks, successors):
    """Which of the blocks can come back to themselves, in groups that lead to each other (Tarjan's strongly connected components)."""
    index, low, stack, on_stack, found = {}, {}, [], set(), []
    for first in blocks:
        if first in index:
            continue
        work = [(first, iter(successors[first]))]
        index[first] = low[first] = len(index)
        stack.append(first)
        on_stack.add(first)
        while work:
            block, rest = work[-1]
            for after in rest:
                if after not in blocks:
                    continue
                if after not in index:
                    index[after] = low[after] = len(index)
                    stack.append(after)
                    on_stack.add(after)
                    work.append((after, iter(successors[after])))
                    break
                if after in on_stack:
                    low[block] = min(low[block], index[after])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[block])
                if low[block] == index[block]:
                    group = set()
                    while block not in group:
                        group.add(stack.pop())
                    on_stack -= group
                    if len(group) > 1 or block in successors[block]:
                        found.append(group)
    return found


def innermost(blocks, successors, works):
    """The loops among the blocks that work, and have no smaller loop that does."""
    loops = []
    for group in cycles(blocks, successors):
        if not any(works[b] for b in group):
            continue
        # Without its head a loop is none, but loops inside it still are. The head is where it is entered; where only a jump table leads there,
        # which the disassembly does not show, the first block that one further on goes back to.
        entered = {a for b in blocks - group for a in successors[b]} & group
        back = {a for b in group for a in successors[b] if a <= b and a in group}
        head = min(entered or back)
        loops += innermost(group - {head}, successors, works) or [group]
    return loops


class Loop:
    def __init__(self, function, code):
        self.function = function
        self.first = code[0][0]
        self.multiplies = self.spills = self.reads = 0
        # Whether most of the multiplies are products of bytes.
        self.bytes = False


def inner_loops(function, machine):
    blocks, successors = blocks_of(function.code, machine)
    multiplies = [sum(machine.multiplies(*function.code[i][1:]) for i in block) for block in blocks]
    for body in innermost(set(range(len(blocks))), successors, multiplies):
        code = [function.code[i] for b in sorted(body) for i in blocks[b]]
        loop = Loop(function, code)
        loop.multiplies = sum(multiplies[b] for b in body)
        loop.bytes = 2 * sum(bool(BYTES.match(m)) for _, m, _ in code) > loop.multiplies
        places = [place for _, m, o in code if (place := machine.on_stack(m, o))]
        written = {place for place, write in places if write}
        loop.spills = sum(place in written for place, _ in places)
        loop.reads = len(places) - loop.spills
        yield loop


def main(arguments):
    every = "--all" in arguments
    loops, kernels = [], defaultdict(set)
    for path in (a for a in arguments if a != "--all"):
        with open(path) as file:
            lines = file.read().splitlines()
        arm = any("file format" in line and "aarch64" in line for line in lines[:20])
        for function in functions(lines):
            machine = (Arm if arm else X86)(function.code)
            found = list(inner_loops(function, machine))
            kernels[function.table].add(function.kernel)
            loops += found
    failures = []
    print(f"{'kernel':<16} {'set':<12} {'loop':>8} {'multiplies':>10} {'spills':>6} {'reads':>6}")
    for loop in loops:
        name, table = loop.function.kernel, loop.function.table
        most, _ = ALLOWED.get((name, table, loop.bytes), (0, ""))
        verdict = ""
        if loop.spills > most * loop.multiplies:
            verdict = "  SPILLS"
            failures.append(f"{name} on {table}: {loop.spills} spills in the loop at {loop.first:#x}")
        elif loop.reads > MOST_READS * loop.multiplies and not (most and loop.reads <= loop.multiplies):
            verdict = "  READS"
            failures.append(f"{name} on {table}: {loop.reads} reads of the stack in the loop at {loop.first:#x}")
        elif loop.spills:
            verdict = "  allowed"
        if every or verdict:
            print(f"{name:<16} {table:<12} {loop.first:>8x} {loop.multiplies:>10} {loop.spills:>6} {loop.reads:>6}{verdict}")
    of_set = defaultdict(lambda: [0, 0, 0, 0])
    with_loops = {(loop.function.kernel, loop.function.table) for loop in loops}
    for loop in loops:
        total = of_set[loop.function.table]
        total[0] += 1
        total[1] += loop.multiplies
        total[2] += loop.spills
        total[3] += loop.reads
    for table in sorted(kernels):
        count, multiplies, spills, reads = of_set[table]
        print(f"{table}: {len(kernels[table])} functions, {count} inner loops, {multiplies} multiplies, {spills} spills, {reads} reads")
        # What is not there is the same code as another set's, which stands for both.
        failures += [f"{name} on {table}: no inner loop" for name in PRODUCTS if name in kernels[table] and (name, table) not in with_loops]
    if not kernels:
        failures.append("no kernels in the disassembly")
    for failure in failures:
        print(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
