"""Rewards that a language model gives, asked at any OpenAI-compatible address.

| file | what it holds |
| --- | --- |
| `options.py` | the fields of a judge as options of a reward |
| `client.py` | one chat completion: time-out, retries, cache, account of tokens and costs |
| `answers.py` | what an answer says: a score, the expected score, which of two is better |
| `questions.py` | what judges are asked |
| `rewards.py` | the rewards "judge_score" and "judge_pair" |
| `agreement.py` | the reward "score_agreement", which trains a judge |
"""
