"""What this machine is: the processor's name, the instruction sets it has, and what holds an engine to one of them."""

import os
import platform
import re
from pathlib import Path


class Impossible(Exception):
    """An instruction set that this processor does not have, or that this module does not know."""


X86, ARM = "x86_64", "aarch64"

# trivec's instruction sets from the slowest to the fastest: the architecture, and the flags of /proc/cpuinfo that one asks for.
AVX2_FLAGS = ["avx2", "fma", "f16c"]
AVX512_FLAGS = [*AVX2_FLAGS, "avx512f", "avx512bw", "avx512dq", "avx512vl"]
SETS = {
    "neon": (ARM, ["asimd"]),
    "neondot": (ARM, ["asimd", "asimddp"]),
    "neoni8mm": (ARM, ["asimd", "asimddp", "i8mm"]),
    "avx2": (X86, AVX2_FLAGS),
    "avxvnni": (X86, [*AVX2_FLAGS, "avx_vnni"]),
    "avx512": (X86, AVX512_FLAGS),
    "avx512vnni": (X86, [*AVX512_FLAGS, "avx512_vnni"]),
    "avx512bf16": (X86, [*AVX512_FLAGS, "avx512_vnni", "avx512_bf16"]),
    "amx": (X86, [*AVX512_FLAGS, "avx512_vnni", "avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"]),
}

# Instructions above trivec's fastest sets that other engines have code for: a processor with one of them holds nobody to a set of trivec.
FURTHER_FLAGS = ["avx_vnni_int8", "avx512_fp16", "amx_fp16", "amx_complex", "sve", "sve2", "bf16"]

# The same sets in the words of the libraries. Intel's MKL listens to its variable on Intel's processors alone; on others the packages here
# do not use MKL's fastest code.
ONEDNN = {
    "avx2": "AVX2",
    "avxvnni": "AVX2_VNNI",
    "avx512": "AVX512_CORE",
    "avx512vnni": "AVX512_CORE_VNNI",
    "avx512bf16": "AVX512_CORE_BF16",
    "amx": "AVX512_CORE_AMX",
}
MKL = {
    "avx2": "AVX2",
    "avxvnni": "AVX2_E1",
    "avx512": "AVX512",
    "avx512vnni": "AVX512_E1",
    "avx512bf16": "AVX512_E3",
    "amx": "AVX512_E4",
}
OPENBLAS = {"avx2": "Haswell", "avxvnni": "Haswell", "avx512": "SkylakeX", "avx512vnni": "SkylakeX", "avx512bf16": "Cooperlake"}
LLAMA = {
    "avx2": ["AVX", "AVX2", "FMA", "F16C", "BMI2"],
    "avxvnni": ["AVX", "AVX2", "FMA", "F16C", "BMI2", "AVX_VNNI"],
    "avx512": ["AVX", "AVX2", "FMA", "F16C", "BMI2", "AVX512"],
    "avx512vnni": ["AVX", "AVX2", "FMA", "F16C", "BMI2", "AVX512", "AVX512_VNNI"],
    "avx512bf16": ["AVX", "AVX2", "FMA", "F16C", "BMI2", "AVX512", "AVX512_VNNI", "AVX512_BF16"],
}


def width(isa):
    return "avx512" if isa.startswith("avx512") or isa == "amx" else "avx2"


class Machine:
    """Read from the text of /proc/cpuinfo, which tests give."""

    def __init__(self, cpuinfo=None, architecture=None, cpus=None):
        cpuinfo = Path("/proc/cpuinfo").read_text() if cpuinfo is None else cpuinfo
        self.architecture = architecture or platform.machine()
        self.cpus = cpus or len(os.sched_getaffinity(0))
        self.fields = {}
        for line in cpuinfo.splitlines():
            name, colon, value = line.partition(":")
            if colon:
                self.fields.setdefault(name.strip(), value.strip())
        self.flags = set(self.fields.get("flags", self.fields.get("Features", "")).split())

    @property
    def name(self):
        return self.fields.get("model name") or f"{self.architecture} {self.fields.get('CPU part', '')}".strip()

    def has(self, isa):
        architecture, flags = SETS[isa]
        return architecture == self.architecture and self.flags.issuperset(flags)

    def best(self):
        """The fastest of trivec's sets that the processor has; None where it has none."""
        return next((isa for isa in reversed(SETS) if self.has(isa)), None)

    def check(self, isa):
        """Ends with what is wrong where engines cannot be held to this set here."""
        if isa not in SETS:
            raise Impossible(f"--isa {isa}: no such instruction set; there are {', '.join(SETS)}")
        architecture, flags = SETS[isa]
        if architecture != self.architecture:
            raise Impossible(f"--isa {isa}: a set of {architecture}, and this machine is {self.architecture}")
        missing = [flag for flag in flags if flag not in self.flags]
        if missing:
            raise Impossible(f"--isa {isa}: {self.name} does not have {', '.join(missing)}; its fastest set is {self.best()}")

    def holds_everybody(self, isa):
        """Whether the processor has nothing beyond the set, so that even an engine without a switch stays within it."""
        return isa == self.best() and not self.flags.intersection(FURTHER_FLAGS)

    def slug(self):
        """A directory's name: maker and model, the microarchitecture where the model's name does not tell it, and the CPUs."""
        words = re.sub(r"\((R|TM)\)|\bCPU\b|\bProcessor\b|@.*|\d+-Core\b", " ", self.name)
        parts = re.findall(r"[a-z0-9]+", words.lower())
        design = self.design()
        return "-".join([*parts, *([design] if design and design not in parts else []), f"{self.cpus}c"])

    def design(self):
        """The microarchitecture of server processors, whose names in virtual machines often say nothing else; "" where it is not known."""
        try:
            key = int(self.fields.get("cpu family", "")), int(self.fields.get("model", ""))
        except ValueError:
            return ""
        if self.fields.get("vendor_id") == "AuthenticAMD":
            family, model = key
            if family == 25:
                zen4 = 0x10 <= model <= 0x1F or 0x60 <= model <= 0x7F or 0xA0 <= model <= 0xAF
                return "zen4" if zen4 else "zen3"
            if family == 23:
                return "zen2" if model >= 0x30 else "zen1"
            return "zen5" if family == 26 else ""
        intel = {
            85: "skylake-cascadelake", 106: "icelake", 143: "sapphirerapids", 207: "emeraldrapids", 173: "graniterapids",
            151: "alderlake", 154: "alderlake", 190: "gracemont", 183: "raptorlake", 186: "raptorlake", 170: "meteorlake",
        }
        return intel.get(key[1], "") if self.fields.get("vendor_id") == "GenuineIntel" and key[0] == 6 else ""


def hold(engine, isa, machine, llama_built_for=None):
    """(environment, None) that holds an engine to a set, or (None, why it cannot be held). On a processor that has nothing beyond
    the set every engine is held."""
    held = machine.holds_everybody(isa)
    onednn = {"ONEDNN_MAX_CPU_ISA": ONEDNN[isa]} if isa in ONEDNN else None
    if engine == "trivec":
        return {"TRIVEC_ISA": isa}, None
    if engine == "onnxruntime":
        return ({}, None) if held else (None, "its kernels (MLAS) choose by the processor and read no variable")
    if engine == "llama":
        if held or llama_built_for == isa:
            return {}, None
        return None, "its sets are chosen when it is compiled, and this one was compiled for the whole processor"
    if onednn is None:
        return ({}, None) if held else (None, f"no variable holds it to {isa}")
    if engine == "openvino":
        return onednn, None
    if engine == "ctranslate2":
        return {**onednn, "CT2_FORCE_CPU_ISA": width(isa).upper(), "MKL_ENABLE_INSTRUCTIONS": MKL[isa]}, None
    if engine == "pytorch":
        return pytorch_environment(isa), None
    if engine == "zentorch":
        # Its library ZenDNN chooses by the processor; oneDNN inside it and PyTorch around it can be held, which is not enough.
        return (pytorch_environment(isa), None) if held else (None, "its library ZenDNN chooses by the processor")
    return ({}, None) if held else (None, "nothing is known that holds it")


def pytorch_environment(isa):
    environment = {
        "ONEDNN_MAX_CPU_ISA": ONEDNN[isa], "ATEN_CPU_CAPABILITY": width(isa), "MKL_ENABLE_INSTRUCTIONS": MKL[isa],
        "PEER_ISA": isa,
    }
    if isa in OPENBLAS:
        environment["OPENBLAS_CORETYPE"] = OPENBLAS[isa]
    return environment


def llama_cmake(isa):
    """What compiles llama.cpp for a set, in place of the whole processor."""
    on = LLAMA.get(isa)
    return None if on is None else " ".join(["-DGGML_NATIVE=OFF", *(f"-DGGML_{name}=ON" for name in on)])


def main(arguments):
    """`machine.py check NAME` ends with the reason where engines cannot be held to NAME here; `machine.py llama NAME` prints how
    llama.cpp is compiled for it, or nothing where compiling for the whole processor is right, and ends with 1 where it cannot be."""
    verb, isa = arguments
    machine = Machine()
    try:
        machine.check(isa)
    except Impossible as why:
        return str(why)
    if verb == "llama" and not machine.holds_everybody(isa):
        if llama_cmake(isa) is None:
            return f"llama.cpp has no options for {isa}"
        print(llama_cmake(isa))
    return 0


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
