"""All benchmarks of training speed, one after the other, at the sizes for which goals are set: a line of JSON each.

    python benchmarks/training_speed.py --device cuda            # about half an hour on a GPU, and 3 GB of disk
    python benchmarks/training_speed.py --device cpu             # hours on two cores: the whole job is 50,000 images trained twice
    python benchmarks/training_speed.py --device cpu --quick     # a few minutes: the same steps on fewer images

The goals: ratios of the data path of 0.95 (GPU, ResNet-50 at 224 px), 0.9 (a detector at 640 px) and 0.8 (two CPU cores); a whole job 2 times as
fast as the reference on a GPU and 1.7 times on a CPU; memory, with the images streamed, at most the reference's; a resume within 5 s; a
checkpoint that stops the steps for at most 100 ms.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ON_GPU = (
    ("training_data_path.py", "--network resnet50 --image-size 224 --images 20000 --batch-size 256 --rounds 1"),
    ("training_data_path.py", "--boxes --network faster_rcnn-resnet50 --image-size 640 --images 1000 --batch-size 16 --rounds 1"),
    ("training_whole_job.py", "--network resnet50 --image-size 224 --batch-size 128"),
    ("training_whole_job.py", "--network resnet50 --image-size 224 --batch-size 128 --images 1280 --epochs 1 --streamed"),
    ("training_resume.py", "--network resnet50 --image-size 224"),
)
ON_GPU_QUICK = (
    ("training_data_path.py", "--network resnet50 --image-size 224 --images 2000 --batch-size 128 --rounds 1"),
    ("training_data_path.py", "--boxes --network faster_rcnn-resnet50 --image-size 640 --images 160 --batch-size 8 --rounds 1"),
    ("training_whole_job.py", "--network resnet50 --image-size 224 --batch-size 128 --images 2000 --epochs 2"),
    ("training_whole_job.py", "--network resnet50 --image-size 224 --batch-size 128 --images 640 --epochs 1 --streamed"),
    ("training_resume.py", "--network resnet50 --image-size 224"),
)
DETECTOR = "--boxes --network faster_rcnn-tf_efficientnet_lite0 --image-size 640 --batch-size 4 --images 60 --rounds 2"
ON_CPU = (("training_data_path.py", ""), ("training_data_path.py", DETECTOR), ("training_whole_job.py", ""), ("training_resume.py", ""))
ON_CPU_QUICK = (
    ("training_data_path.py", "--images 320 --rounds 2"),
    ("training_whole_job.py", "--images 1000 --epochs 2"),
    ("training_resume.py", "--images 160"),
)


def main() -> None:
    """Run them; the exit code is 1 where one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), required=True)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    chosen = {("cuda", False): ON_GPU, ("cuda", True): ON_GPU_QUICK, ("cpu", False): ON_CPU, ("cpu", True): ON_CPU_QUICK}
    failed = False
    for script, options in chosen[asked.device, asked.quick]:
        ended = subprocess.run([sys.executable, script, *options.split(), "--device", asked.device], cwd=HERE, check=False)
        failed |= ended.returncode != 0
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
