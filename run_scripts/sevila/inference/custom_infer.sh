#!/bin/sh
# Chained inference on questions of your own (32 frames, 4 keyframes), by the embedded model unless model.model_type says otherwise.
# Every argument is a setting, and wins: NUM_PROCESSES=1 sh inference/custom_infer.sh model.model_type=flant5xl run.output_dir=...
set -eu
cd "$(dirname "$0")/../../.."
exec "${PYTHON:-python}" -m torch.distributed.run --standalone --nproc_per_node="${NUM_PROCESSES:-4}" evaluate.py --cfg-path configs/sevila/inference/custom.yaml --options "$@"
