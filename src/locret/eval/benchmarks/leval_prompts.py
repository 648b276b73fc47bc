"""L-Eval's prompts as plain text: the system message, the document, the instruction.

The authors put a model's chat format around the same wording; with plain text the parts just follow one another.
"""

from __future__ import annotations

from dataclasses import dataclass

LONG = "Now you are given a very long document. "
FOLLOW = LONG + "Please follow the instruction based on this document. For multi-choice questions, there "
LETTER_ONLY = "Please only provide the letter corresponding to the answer "
ONLY_ANSWER = "Please directly give the answer without any additional output or explanation "

SYSTEM = {
    "coursera": FOLLOW
    + "could be a sinlge correct option or multiple correct options. "
    + LETTER_ONLY
    + "(like A or AB) when answering. ",
    "quality": FOLLOW
    + "is only a sinlge correct option. "
    + LETTER_ONLY
    + "(like A or B) when answering. For other questions, please directly give the concise and accurate answer. ",
    "gsm100": "Given several question answer pairs, you need to follow a similar format to answer the last question. "
    "Make sure the response is end with The answer is _ . ",
    "codeU": "Now you are given a code base consisting of a large amount of functions and the corresponding comments. "
    "In the end, I will call some functions defined in the code base. "
    "Please carefully read these codes and comments and answer the question.",
    "sci_fi": "Now you are given a scientific fiction. I will ask you some questions and the answer should be "
    '"True" or "False". Notice that you should answer the question based on the evidence in the document instead of '
    "your background knowledge.",
    "topic_retrieval_longchat": "Below is a record of our previous conversation on many different topics. "
    "You are the ASSISTANT, and I am the USER. At the beginning of each topic, the USER will say "
    "'I would like to discuss the topic of <TOPIC>'. Memorize each <TOPIC>. At the end of the record, I will ask you "
    "to retrieve the first/second/third topic names. Now the record start. ",
    "open": LONG + "Please follow the instruction after this document. These instructions may include summarizing a "
    "document, answering questions based on the document, or writing a required paragraph. ",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """Where document and instruction stand.

    Attributes:
        before: what stands before the document.
        question: what follows it; `{instruction}` and `{words}`, the words of the right answer, are open.
        answer_prefix: beginning of the answer.
    """

    before: str
    question: str
    answer_prefix: str = ""

    def ask(self, instruction: str, gold: str) -> str:
        """The question's text."""
        return self.question.format(instruction=instruction, words=len(gold.split()))


def closed(system: str) -> Layout:
    """A question with one right answer."""
    question = " \nQuestion: {instruction}.  " + ONLY_ANSWER
    return Layout(SYSTEM[system] + "Document is as follows. ", question, "\nAnswer:")


def continued(system: str) -> Layout:
    """Examples, code or a conversation that the instruction just goes on from."""
    return Layout(SYSTEM[system] + "\n\n", "\n\n{instruction}")


def open_ended() -> Layout:
    """A question that is answered freely, in about as many words as the right answer has."""
    question = " Instruction: {instruction} \nAnswer this question with {words} words."
    return Layout(SYSTEM["open"] + "Document is as follows. ", question)


def asked_of_the_world(instruction: str) -> str:
    """A question about a story, as one about the real world."""
    world = "based on the real-world knowledge and facts up until your last training. "
    return instruction.replace("based on the world described in the document.", world) + (
        "Please directly answer without any additional output or explanation. "
    )
