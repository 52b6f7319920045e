#!/bin/sh
# Fine-tuning of the Answerer on STAR (forward chain, 32 frames, 4 keyframes): SeViLA 64.9.
# Published: 8 to 48 hours by dataset on 4 GPUs of 48 GB, 10 epochs, 8 videos per GPU, 2 batches per step, rate 3e-5 after
# 1000 steps of warm-up.
# Starts from model.finetuned=output/refine_star/best (without refinement, 62.7: output/pretrain_qvh/best).
# Every argument is a setting, and wins: NUM_PROCESSES=1 sh finetune/star_ft.sh model.model_type=tiny run.output_dir=...
set -eu
cd "$(dirname "$0")/../../.."
exec "${PYTHON:-python}" -m torch.distributed.run --standalone --nproc_per_node="${NUM_PROCESSES:-4}" train.py --cfg-path configs/sevila/finetune/star.yaml --options "$@"
