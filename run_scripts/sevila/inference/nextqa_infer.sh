#!/bin/sh
# Chained inference on NExT-QA (32 frames, 4 keyframes), zero-shot: 63.6. Published: 4 GPUs of 48 GB.
# Every argument is a setting, and wins: NUM_PROCESSES=1 sh inference/nextqa_infer.sh model.finetuned=... run.output_dir=...
set -eu
cd "$(dirname "$0")/../../.."
exec "${PYTHON:-python}" -m torch.distributed.run --standalone --nproc_per_node="${NUM_PROCESSES:-4}" evaluate.py --cfg-path configs/sevila/inference/nextqa.yaml --options "$@"
