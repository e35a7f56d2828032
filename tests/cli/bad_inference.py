"""Command lines of `promot infer` with one thing wrong."""

from command_lines import ASKED, TEXT, Bad, infer

INFER = [
    Bad(
        "infer: bad line",
        infer(),
        ["line 2", '"inputs"'],
        {"asked.jsonl": '{"inputs": "a"}\n{"input": "b"}\n'},
    ),
    Bad(
        "infer: prompt of a line",
        infer(),
        ["'taget'", "'target'"],
        {"asked.jsonl": '{"inputs": "a", "prompt": "taget"}\n'},
    ),
    Bad("infer: prompt", infer("--prompt=taget"), ["'taget'", "'target'"], ASKED),
    Bad("infer: LoRA", infer("--lora=0.5"), ["lora = 0.5", "has no LoRA"], ASKED),
    Bad("infer: scale", infer("--lora=nan"), ["lora = nan", "-10 to 10"], ASKED),
    Bad("infer: no input", infer("--input=none.jsonl"), ["--input none.jsonl"], ASKED),
    Bad("infer: no output", infer("--output=mine.tsv/o"), ["--output mine.tsv/o"], ASKED),
    Bad("infer: output is a folder", infer("--output=trained"), ["--output trained"], ASKED),
    Bad(
        "infer: output of other input",
        infer(),
        ["--output o.jsonl exists", "o.jsonl.made_by.json", "give another"],
        ASKED | {"o.jsonl": '{"inputs": "who?", "prompt": null, "output": "x"}\n'},
    ),
    Bad(
        "infer: output that is the input",
        infer("--output=asked.jsonl"),
        ["--output asked.jsonl would overwrite the --input", "give another"],
        ASKED,
    ),
    Bad(
        "infer: half a character",
        infer(),
        ["line 1"],
        {"asked.jsonl": '{"inputs": "\\ud800"}\n'},
    ),
    Bad("infer: temperature", infer("--temperature=nan"), ["temperature = nan", "finite"], ASKED),
    Bad("infer: seed", infer("--seed=99999999999"), ["seed = 99999999999"], ASKED),
    Bad("infer: batch size", infer("--batch_size=0"), ["--batch_size = 0", "1 to 1024"], ASKED),
    Bad("infer: number", infer("--beams=two"), ["--beams", "'two'"], ASKED),
    Bad("infer: beams", infer("--beams=0"), ["beams = 0"], ASKED),
    Bad("infer: whose beams", infer("--beam_search=hf"), ["beam_search = 'hf'", "t5x"], ASKED),
    Bad(
        "infer: too long",
        infer("--input_length=1", "--too_long=error"),
        ["line 1", "input_length = 1"],
        ASKED,
    ),
    Bad("infer: what is too long", infer("--too_long=cut"), ["too_long = 'cut'", "'flag'"], ASKED),
    Bad("infer: nothing to score", infer("--score"), ["line 1", '"targets"'], ASKED),
    Bad("infer: mesh", infer("--mesh=fsdp"), ["--mesh", "'fsdp'"], ASKED),
    Bad("infer: mesh axis", infer("--mesh=model=2"), ["'model'", "data, fsdp, tensor"], ASKED),
    Bad("infer: flag", infer("--gin.BEAMS=2"), ["'--gin.BEAMS=2'", "--help"], ASKED),
]


def asking(name: str, content: str | bytes, says: list[str], *more: str) -> Bad:
    """`promot infer` on a file that has something wrong."""
    return Bad(f"infer: {name}", infer(*more), says, {"asked.jsonl": content})


def own_field(name: str, *more: str) -> Bad:
    """A line with a field that the answer would overwrite."""
    line = f'{{"inputs": "a", "targets": "b", "{name}": 3}}\n'
    return asking(f"own {name}", line, ["line 1", repr(name), "rename it"], *more)


INFER_MORE = [
    asking("nested", '{"inputs": "a"}\n{"inputs": "a", "b": ' + "[" * 99_999, ["line 2", "nested"]),
    asking("NaN", '{"inputs": "a", "score": NaN}\n', ["line 1", "NaN is no JSON"]),
    asking("infinite", '{"inputs": "a", "b": 1e999}\n', ["line 1", "not JSON compliant"]),
    asking("no object", '["a"]\n', ["line 1", '{"inputs": "text"}']),
    asking("other fields", '{"input": "a"}\n', ["line 1", "it has no 'inputs'"]),
    asking("a number", '{"inputs": 3}\n', ["line 1", '{"inputs": "text"}']),
    asking("utf-16", '{"inputs": "a"}\n'.encode("utf-16"), ["asked.jsonl is UTF-16", "UTF-8"]),
    asking(
        "latin-1", '{"inputs": "a"}\r{"inputs": "é"}\r'.encode("latin-1"), ["line 2", "not UTF-8"]
    ),
    asking("NUL", '{"inputs": "a"}\n{"inputs":\0"b"}\n' + "\n" * 99, ["line 2", "NUL"]),
    own_field("output"),
    own_field("too_long"),
    *(own_field(name, "--score") for name in ("score", "tokens", "greedy")),
    Bad("infer: latin-1 text", TEXT, ["asked.txt, line 2", "not UTF-8"], {"asked.txt": b"a\n\xe9"}),
    Bad("infer: NUL in a path", infer("--input=a\0b"), ["--input", "NUL character"]),
    Bad("infer: long name", infer(f"--output={'a' * 300}"), ["--output", "too long"]),
    Bad("infer: NUL in WORKDIR", ["infer", "a\0", "--input=a", "--output=b"], ["NUL character"]),
    Bad("infer: rather long name", infer(f"--output={'a' * 245}"), ["File name too long"], ASKED),
    Bad(
        "infer: of no bucket", infer("--input=gs://a/b.jsonl"), ["--input: 'gs://a/b.jsonl'", "'a'"]
    ),
    Bad(
        "infer: of a bucket", infer("--input=gs://abc/b.jsonl"), ["gs://abc/b.jsonl cannot be read"]
    ),
    Bad(
        "infer: to no bucket",
        infer("--output=gs://none-a/b"),
        ["--output gs://none-a/b", "no such"],
    ),
    Bad("infer: to S3", infer("--output=s3://abc/b"), ["--output: 's3://abc/b'", "gs://"]),
    Bad("infer: axis twice", infer("--mesh=data=1,data=2"), ["--mesh", "for each"], ASKED),
    Bad("infer: to a device", infer("--output=/dev/null"), ["/dev/null is a device"], ASKED),
    Bad(
        "infer: to stdout",
        infer("--output=/dev/stdout"),
        ["stdout is where messages go"],
        ASKED,
    ),
    Bad("infer: of a device", infer("--input=/dev/null"), ["--input /dev/null is a device"]),
    Bad("infer: of a folder", infer("--input=trained"), ["--input trained is a directory"]),
    Bad("infer: no folder", infer("--output=no/o.jsonl"), ["no directory", "make it"], ASKED),
    Bad("infer: top_k", infer("--top_k=5"), ["--top_k = 5 has no effect", "--temperature"], ASKED),
    Bad("infer: top_p", infer("--top_p=0.5"), ["--top_p = 0.5 has no effect"], ASKED),
    Bad("infer: seed alone", infer("--seed=3"), ["--seed = 3 has no effect"], ASKED),
    Bad("infer: one beam", infer("--length_penalty=1"), ["--length_penalty = 1.0 has no"], ASKED),
    Bad("infer: whose one beam", infer("--beam_search=huggingface"), ["--beams=4"], ASKED),
    Bad(
        "infer: decoding of scores",
        infer("--score", "--max_length=8"),
        ["--max_length = 8 has no effect", "--score"],
        ASKED,
    ),
    Bad(
        "infer: outputs of 10**9", infer("--max_length=1000000000"), ["--max_length = 10", "16384"]
    ),
    Bad("infer: 10**6 beams", infer("--beams=1000000"), ["beams = 1000000", "1 to 256"], ASKED),
    Bad("infer: 10**9 rows", infer("--batch_size=1000000000"), ["1 to 1024"], ASKED),
    Bad("infer: cold", infer("--temperature=1e-40"), ["temperature = 1e-40", "1e-06"], ASKED),
    Bad("infer: penalty", infer("--length_penalty=99", "--beams=2"), ["-5 to 5"], ASKED),
    Bad("infer: no length", infer("--input_length=0"), ["--input_length = 0", "at least 1"], ASKED),
]
