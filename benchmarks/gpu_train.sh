#!/bin/sh
# The rows of the tables on order and understanding, trained side by side on one GPU, and the model that ships. Nine minutes on an H100.
#
#     sh benchmarks/gpu_train.sh                       # torch 2.11 and triton 3.6 are enough; no network is needed
#     ALL=4000 QA=4000 ORDER=2500 SECONDS_LEFT=500 OUT=/tmp/models sh benchmarks/gpu_train.sh
#
# What comes back are models in half precision, MIXER-SIGHT-SEED.tar and order-MIXER-SEED.tar, and log.txt. Measure them on any machine:
#     python -m benchmarks.order --models FOLDER --out runs/order
#     python -m benchmarks.understanding --models FOLDER --out runs/understanding
# The first 2,000 steps of toybox-qa and toybox-all are glimpses, scenes and lookups: fewer than 3,000 make no model.
# What has not ended SECONDS_LEFT after the start is ended then and gives no model: choose steps that fit. Seen with nine trainings side by
# side: 6 to 8 steps/s of toybox-all and toybox-qa, 13 of toybox-retrieval with 48 pairs. THIS FORM OF IT HAS RUN ON TWO CORES ALONE, with
# shrunk recipes: the trainings behind docs/results.md were started by its forerunner, which read texts in each training and took 150 s before the first step.
set -u
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
OUT=${OUT:-/tmp/vlm-models}
WORK=${WORK:-/tmp/vlm-train}
CORES=$(nproc)
mkdir -p "$OUT" "$WORK"
export PYTHONUNBUFFERED=1 PYTHONWARNINGS=ignore COLUMNS=400 OMP_NUM_THREADS=1

(sleep "${SECONDS_LEFT:-500}"; pkill -f "vlm.train .*--cache $WORK/cache") &
timer=$!
# More pairs than two cores would read: 2,000 are learnt by heart.
sed -e "s/^pairs = .*/pairs = ${ORDER_PAIRS:-8000}/" -e "s/^batch_pairs = .*/batch_pairs = 48/" train/recipes/toybox-retrieval.toml >"$WORK/toybox-order.toml"
order=$WORK/toybox-order.toml
for recipe in toybox-all toybox-qa; do
    sed -e "s/^worlds = .*/worlds = ${WORLDS:-4800}/" -e "s/^batch = .*/batch = 64/" -e "s/^window_batch = .*/window_batch = 128/" "train/recipes/$recipe.toml" >"$WORK/$recipe.toml"
done
all=$WORK/toybox-all.toml qa=$WORK/toybox-qa.toml
# Features and texts first, by all cores: the trainings then find them.
pids=
for recipe in "$order" "$all" "$qa"; do
    name=first-$(basename "$recipe" .toml)
    "$PYTHON" -m vlm.train "$recipe" --steps 1 --out "$WORK/$name" --cache "$WORK/cache" --threads "$CORES" >"$WORK/$name.log" 2>&1 &
    pids="$pids $!"
done
wait $pids

train() { # NAME RECIPE ARGUMENTS...
    name=$1 recipe=$2
    shift 2
    "$PYTHON" -m vlm.train "$recipe" --out "$WORK/$name" --cache "$WORK/cache" --threads 1 "$@" >"$WORK/$name.log" 2>&1 &
    pids="$pids $!"
}
pids=
for seed in ${SEEDS:-0}; do
    train "dbm-all-$seed" "$all" --mixer dbm --seed "$seed" --steps "${ALL:-4000}"
    for mixer in attention vim; do
        train "$mixer-all-$seed" "$qa" --mixer "$mixer" --seed "$seed" --steps "${QA:-4000}"
    done
    train "adapter-$seed" toybox-adapter --seed "$seed" --steps "${ADAPTER:-1200}"
done
for seed in ${ORDER_SEEDS:-0 1 2}; do
    for mixer in ${ORDER_MIXERS:-dbm}; do
        train "order-$mixer-$seed" "$order" --mixer "$mixer" --seed "$seed" --steps "${ORDER:-2500}"
    done
done
wait $pids
kill $timer 2>/dev/null

"$PYTHON" - "$WORK" <<'PACK'
import sys
from pathlib import Path

import torch

from vlm.models.model import VideoTextModel

for folder in sorted(Path(sys.argv[1]).glob("*/model")):
    if not folder.parent.name.startswith("first"):
        VideoTextModel.from_pretrained(folder).save_pretrained(Path(sys.argv[1]) / "half" / folder.parent.name, dtype=torch.float16)
PACK
for folder in "$WORK"/half/*; do
    tar cf "$OUT/$(basename "$folder").tar" -C "$WORK/half" "$(basename "$folder")"
done
cat "$WORK"/*.log >"$OUT/log.txt"
tail -qn 1 "$WORK"/*.log | cut -c1-300
