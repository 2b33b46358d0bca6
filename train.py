"""Train and test a recommender: ``python train.py dataset=music model.K=4``."""

from kgrec.commands.train import main

if __name__ == "__main__":
    main()
