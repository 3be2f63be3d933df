"""An ONNX model in MLServer with a fault of its program; MLServer itself imports this file."""

import os

from mlserver_onnx import OnnxModel
from runners import RUNNERS


class WrongModel(OnnxModel):
    """Runs the file of ``parameters.uri``, with the fault that ``PLANTED`` names where it is one of a program."""

    async def load(self):
        """Open the file."""
        done = await super().load()
        session, planted = self.session, RUNNERS.get(os.environ["PLANTED"])
        if planted:
            run = planted[0](lambda self, feeds: dict(zip(self.called, session.run(self.called, feeds), strict=True)))

            class Session:
                """What the model asks."""

                def run(this, asked, feeds):  # noqa: N805 - the model is ``self``
                    found = run(self, feeds)
                    return [found[name] for name in asked]

            self.session = Session()
        return done
