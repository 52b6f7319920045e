#!/bin/sh
# Localizer pre-training on QVHighlights (paper, section 3.3), the start of every published SeViLA result.
# Published: 12 hours on 4 GPUs of 48 GB, 80 epochs, 16 videos of 4 frames each per GPU, rate 3e-5 after 1000 steps of
# warm-up.
# Every argument is a setting, and wins: NUM_PROCESSES=1 sh pre-train/pretrain_qvh.sh model.model_type=tiny run.output_dir=...
set -eu
cd "$(dirname "$0")/../../.."
exec "${PYTHON:-python}" -m torch.distributed.run --standalone --nproc_per_node="${NUM_PROCESSES:-4}" train.py --cfg-path configs/sevila/pretrain/qvh.yaml --options "$@"
