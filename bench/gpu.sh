#!/bin/sh
# What only a GPU shows, within 8 minutes: kernels against XLA, training steps (beside Transformers,
# where that is installed), rows packed and not, and the experiment on a real model on data that was
# prepared elsewhere. One table at the end. The machine needs no TensorFlow and no SeqIO.
#
#   python -m bench.real_gpu prepare BASE DATA --gguf FILE     beforehand, where they are
#   sh bench/gpu.sh DATA OUT [options of bench.real_gpu_train]
set -e
data=$1 out=$2
shift 2
mkdir -p "$out"
lines=$out/measured.jsonl
trap 'python3 -m bench.gpu_table "$lines"' EXIT  # also of what was done until a failure
python3 -m pytest -q -p no:cacheprovider tests/models/test_attention.py -k cudnn
python3 -m bench.attention >"$lines"
for model in t5 smollm2_135m; do
  for method in finetune prompt_tuning; do
    python3 -m bench.train_step --model $model --method $method >>"$lines"
  done
done
for packed in 1 3; do
  python3 -m bench.train_step --model t5_1_1_base --dtype bfloat16 --method prompt_tuning \
    --packed $packed >>"$lines"
done
for model in t5_1_1_base t5_1_1_large t5_1_1_xl; do
  python3 -m bench.peers --model $model --dtype bfloat16 --works finetune --rounds 1 >>"$lines"
done
python3 -m bench.real_gpu_train "$data" "$out" "$@"
