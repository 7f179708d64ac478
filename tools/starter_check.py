"""The figures of models/starter/README.md, for `make_starter.py --check`: what pruning cost, what the heads tell apart."""

import json
from pathlib import Path

import numpy as np

SEED_PAIRS = [
    ("我喜欢阅读书籍", "I enjoy reading books"),
    ("人工智能正在改变世界", "AI is transforming the world"),
    ("今天天气很好", "The weather is nice today"),
    ("北京是中国的首都", "Paris is the capital of France"),
]
# One sentence in many languages, and one that says something else.
TRANSLATIONS = {
    "en": "The cat sleeps on the warm roof",
    "de": "Die Katze schläft auf dem warmen Dach",
    "fr": "Le chat dort sur le toit chaud",
    "es": "El gato duerme en el techo caliente",
    "ru": "Кошка спит на тёплой крыше",
    "ar": "القطة تنام على السطح الدافئ",
    "hi": "बिल्ली गर्म छत पर सो रही है",
    "th": "แมวนอนหลับบนหลังคาที่อบอุ่น",
    "vi": "Con mèo ngủ trên mái nhà ấm áp",
    "tr": "Kedi sıcak çatıda uyuyor",
    "ja": "猫は暖かい屋根の上で寝ています",
    "ko": "고양이가 따뜻한 지붕 위에서 자고 있다",
    "zh": "猫在温暖的屋顶上睡觉",
}
OTHER = "The central bank raised interest rates again"


def normalized(rows):
    return rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)


def run(model, tokenizer, heads, unpruned, full_tokenizer, states_of):
    heads = {name: tuple(part.astype(np.float32) for part in head) for name, head in heads.items()}

    def apply(name, rows):
        weight, bias = heads[name]
        return rows @ weight.T + bias

    def dense(text):
        ((_, states),) = states_of(model, tokenizer, [text])
        return normalized(apply("dense", states.mean(axis=0)))

    for a, b in SEED_PAIRS:
        print(f"dense {float(dense(a) @ dense(b)):.3f}  {a} / {b}")
    english, other = dense(TRANSLATIONS["en"]), dense(OTHER)
    for language, text in TRANSLATIONS.items():
        vector = dense(text)
        print(f"dense {float(vector @ english):.3f} to the English, {float(vector @ other):.3f} to another sentence  {language}")

    texts = Path(__file__).parent.parent / "tests/data/texts.jsonl"
    lines = [json.loads(line)["text"] for line in texts.read_text(encoding="utf-8").splitlines()] if texts.exists() else []
    lines = [line for line in lines if line.strip()] + list(TRANSLATIONS.values())
    raw = [np.array([s.mean(axis=0) for _, s in states_of(*m, lines)]) for m in ((model, tokenizer), (unpruned, full_tokenizer))]
    cosines = (normalized(raw[0]) * normalized(raw[1])).sum(axis=1)
    print(f"pooled, pruned against unpruned, {len(lines)} texts: mean {cosines.mean():.4f}, min {cosines.min():.4f}")
    for at in np.argsort(cosines)[:6]:
        print(f"   {cosines[at]:.4f} {lines[at][:60]!r}")

    query, document = "苹果公司发布新手机", "Apple launched a new iPhone"
    (q_ids, q), (d_ids, d) = states_of(model, tokenizer, [query, document])
    similarity = normalized(apply("colbert", q[1:])) @ normalized(apply("colbert", d[1:])).T
    for row, token in enumerate(q_ids[1:]):
        best = similarity[row].argmax()
        print(f"   {tokenizer.id_to_token(token)} -> {tokenizer.id_to_token(d_ids[1 + best])} {similarity[row, best]:.3f}")
    for ids, states in ((q_ids, q), (d_ids, d)):
        weights = np.maximum(apply("sparse", states)[:, 0], 0)
        print("  ", " ".join(f"{tokenizer.id_to_token(i)}:{w:.3f}" for i, w in zip(ids, weights)))
