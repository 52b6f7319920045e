#!/bin/sh
# Grounded question answering on NExT-GQA (32 frames, 4 keyframes): Acc@QA 68.1, Acc@GQA 16.6, mIoP 29.5, mIoU 21.7.
# Every argument is a setting, and wins: NUM_PROCESSES=1 sh inference/nextgqa_infer.sh model.finetuned=... run.output_dir=...
set -eu
cd "$(dirname "$0")/../../.."
exec "${PYTHON:-python}" -m torch.distributed.run --standalone --nproc_per_node="${NUM_PROCESSES:-4}" evaluate.py --cfg-path configs/sevila/inference/nextgqa.yaml --options "$@"
