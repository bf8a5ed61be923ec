"""Conversations as indices, counted in words."""

from policies.index import Index


class Words:
    """One token a word, four for a message's frame."""

    def count_text(self, text):
        return len(text.split())

    def count_message(self, message):
        return 4 + self.count_text(message.get("content") or "")


def indexed(*messages):
    index = Index(Words())
    index.follow([{"role": role, "content": content} for role, content in messages])
    return index


def session():
    """An agent's work: the order W-1001 is asked for and looked up, W-2002 only stands in a list."""

    def call(n, name, arguments):
        function = {"name": name, "arguments": arguments}
        return {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": f"c{n}", "type": "function", "function": function}],
        }

    def result(n, content):
        return {"role": "tool", "tool_call_id": f"c{n}", "content": content}

    index = Index(Words())
    index.follow(
        [
            {"role": "user", "content": "Please cancel my order #W1001234, my id is anna_kovacs_2211."},
            call(1, "find_user", '{"user_id": "anna_kovacs_2211"}'),
            result(1, '{"orders": ["#W1001234", "#W2002345"]}'),
            call(2, "get_order", '{"order_id": "#W1001234"}'),
            result(2, '{"id": "#W1001234", "status": "pending"}'),
            call(3, "get_policy", "{}"),
            result(3, '{"cancel": "pending orders only"}'),
            {"role": "user", "content": "Yes, go on."},
        ]
    )
    return index
