"""A server of one model, exact to the token: OpenAI's protocol, ids, and episodes that others play.

The programs and the thread that runs them:
program.py      slots that rows of any request share: prefill, place, advance
scoring.py      log-probabilities of the tokens of a prompt
worker.py       the thread that owns both: rows join and leave, weights are exchanged
running.py      a request at work, and its rows in the slots
fair_queue.py   whose row is next
limits.py       sizes of a server
asked.py        what the worker is asked for and what it answers, as tokens

From a body to an answer:
protocol.py     bodies, checked
service.py      bodies become work, work becomes answers
replies.py      answers as OpenAI's clients read them
deltas.py       texts of a stream
tool_calls.py   tool calls in texts
episodes.py     the ids of every turn of an episode
rendering.py    what a chat template writes between two answers
seats.py        episodes that agents of a run play: a key for each, the run's noise and limits

On the network, with the extra `serve`; nothing else imports these:
app.py          routes
server.py       from its start to its end
in_process.py   the same in a thread, beside a run
"""
