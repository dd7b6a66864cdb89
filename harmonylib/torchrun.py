"""torchrun for the runs of a sweep: it ends when the sweep is gone, and what it has started ends with it.

python -m harmonylib.torchrun --nproc_per_node=2 -m harmonylib train EXPERIMENT ...
"""

from torch.distributed.run import main

from harmonylib.interruption import end_with_starter

if __name__ == "__main__":
    end_with_starter()
    main()
