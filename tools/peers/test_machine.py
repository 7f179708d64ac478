"""Tests of what holds engines to an instruction set, and of processors' names."""

import unittest

import machine


def of(flags, name="Some CPU", cpus=2, architecture="x86_64", **fields):
    lines = [f"model name : {name}", f"flags : {flags}", *(f"{k.replace('_id', '!').replace('_', ' ').replace('!', '_id')} : {v}" for k, v in fields.items())]
    return machine.Machine("\n".join(lines), architecture, cpus)


AVX2 = "avx2 fma f16c"
AVX512 = AVX2 + " avx512f avx512bw avx512dq avx512vl"
ZEN5 = AVX512 + " avx_vnni avx512_vnni avx512_bf16"


class Sets(unittest.TestCase):
    def test_an_impossible_set_is_an_error_that_names_what_is_missing(self):
        with self.assertRaisesRegex(machine.Impossible, "does not have avx_vnni; its fastest set is avx2"):
            of(AVX2).check("avxvnni")
        with self.assertRaisesRegex(machine.Impossible, "a set of aarch64"):
            of(AVX2).check("neondot")
        with self.assertRaisesRegex(machine.Impossible, "no such instruction set"):
            of(AVX2).check("avx3")
        of(AVX2).check("avx2")

    def test_a_processor_without_more_holds_every_engine(self):
        for engine in ("onnxruntime", "llama", "zentorch", "openvino"):
            self.assertIsNone(machine.hold(engine, "avx2", of(AVX2))[1])

    def test_what_cannot_be_held_is_named(self):
        for engine in ("onnxruntime", "llama", "zentorch"):
            self.assertIsNotNone(machine.hold(engine, "avx2", of(ZEN5))[1])
        self.assertIsNone(machine.hold("llama", "avx2", of(ZEN5), "avx2")[1])
        self.assertEqual(machine.hold("openvino", "avxvnni", of(ZEN5)), ({"ONEDNN_MAX_CPU_ISA": "AVX2_VNNI"}, None))
        self.assertEqual(machine.hold("trivec", "avx2", of(ZEN5)), ({"TRIVEC_ISA": "avx2"}, None))
        self.assertEqual(machine.hold("ctranslate2", "avx512vnni", of(ZEN5))[0]["CT2_FORCE_CPU_ISA"], "AVX512")
        self.assertEqual(machine.hold("pytorch", "avxvnni", of(ZEN5))[0]["ATEN_CPU_CAPABILITY"], "avx2")

    def test_further_instructions_hold_nobody(self):
        self.assertIsNotNone(machine.hold("onnxruntime", "avxvnni", of(AVX2 + " avx_vnni avx_vnni_int8"))[1])

    def test_directories_have_readable_names(self):
        self.assertEqual(of("", "AMD EPYC", vendor_id="AuthenticAMD", cpu_family=25, model=1).slug(), "amd-epyc-zen3-2c")
        self.assertEqual(of("", "Intel(R) N100", 4, vendor_id="GenuineIntel", cpu_family=6, model=190).slug(), "intel-n100-gracemont-4c")
        self.assertEqual(
            of("", "Intel(R) Xeon(R) Processor @ 2.10GHz", vendor_id="GenuineIntel", cpu_family=6, model=143).slug(),
            "intel-xeon-sapphirerapids-2c",
        )
        self.assertEqual(of("", "AMD EPYC 9B45", vendor_id="AuthenticAMD", cpu_family=26, model=2).slug(), "amd-epyc-9b45-zen5-2c")


if __name__ == "__main__":
    unittest.main()
