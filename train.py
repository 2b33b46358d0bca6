"""Train and test a recommender: ``python train.py dataset=music model.K=4``."""

from kgrec.interrupts import ends_in_one_line

if __name__ == "__main__":
    with ends_in_one_line(whole_process=True):
        from kgrec.commands.train import main

        main()
