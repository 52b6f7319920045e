#!/bin/sh
# Moment retrieval on QVHighlights (75 frames): R1@0.5 54.5, R1@0.7 36.5, mAP 32.3. Published: 4 GPUs of 48 GB.
# Every argument is a setting, and wins: NUM_PROCESSES=1 sh inference/qvh_infer.sh model.finetuned=... run.output_dir=...
set -eu
cd "$(dirname "$0")/../../.."
exec "${PYTHON:-python}" -m torch.distributed.run --standalone --nproc_per_node="${NUM_PROCESSES:-4}" evaluate.py --cfg-path configs/sevila/inference/qvh.yaml --options "$@"
