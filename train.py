"""Train and test a recommender: ``python train.py dataset=music model.K=4``."""

import os

if __name__ == "__main__":
    # On several devices torch warns of what is meant; it reads this when it is imported.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from kgrec.train import main

    main()
