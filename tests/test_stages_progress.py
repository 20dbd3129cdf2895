from selfreward.stages.progress import ProgressBoard


def test_a_board_counts_the_stage_that_runs() -> None:
    board = ProgressBoard()
    board.open("judge")
    board.add("judge", 3, 40)
    board.add("respond", 8, 100)
    board.say("respond", "late")
    assert (board.read(), board.said()) == ((3, 40), "")
    board.open("select")
    assert board.read() == (0, 0)


def test_a_board_that_was_started_anew_learns_the_stage_from_who_tells() -> None:
    # Ray builds it with nothing: without this every row would be dropped until the next stage.
    board = ProgressBoard()
    board.add("judge", 3, 40)
    board.say("judge", "loading")
    board.add("respond", 8, 100)
    assert (board.read(), board.said()) == ((3, 40), "loading")
