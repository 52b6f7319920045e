#!/bin/sh
# Fine-tuning of the Answerer on VLEP (forward chain, 32 frames, 4 keyframes): SeViLA 68.9.
# Published: 8 to 48 hours by dataset on 4 GPUs of 48 GB, 10 epochs, 4 videos per GPU, 4 batches per step, rate 1e-5 after
# 1200 steps of warm-up.
# Starts from model.finetuned=output/refine_vlep/best (without refinement, 69.0: output/pretrain_qvh/best).
# Every argument is a setting, and wins: NUM_PROCESSES=1 sh finetune/vlep_ft.sh model.model_type=tiny run.output_dir=...
set -eu
cd "$(dirname "$0")/../../.."
exec "${PYTHON:-python}" -m torch.distributed.run --standalone --nproc_per_node="${NUM_PROCESSES:-4}" train.py --cfg-path configs/sevila/finetune/vlep.yaml --options "$@"
