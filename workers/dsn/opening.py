"""Opening the judges that Params name. One that can't be opened abstains throughout, and the result says why."""

from collections.abc import Sequence

from shared.jobs.catalog.dsn.judging import STAND_IN, Judge, JudgeAbout, JudgedParams
from shared.jobs.context import JobContext
from shared.jobs.errors import InvalidInput, Permanent, Retryable
from shared.llm.model_folder import model_folder
from shared.settings import Settings
from workers.dsn import judges
from workers.dsn.judges import ABSTAINS, Item, Judged, KeywordJudge
from workers.dsn.nli import NliJudge, Weighing
from workers.dsn.phrases import MATCH_PHRASES


class Panel:
    """All judges of a job, in order."""

    def __init__(self, params: JudgedParams, ctx: JobContext, settings: Settings) -> None:
        self._params, self._ctx, self._settings = params, ctx, settings
        self.named = {judge.name: judge for judge in params.judges}
        self.unavailable: dict[str, str] = {}
        self._judges = {name: self._open(judge) for name, judge in self.named.items()}

    @property
    def voters(self) -> list[str]:
        return [name for name, judge in self.named.items() if judge.has_vote]

    def judge(self, items: Sequence[Item]) -> dict[str, list[Judged]]:
        """Everyone's verdicts on every item; a judge that can't be heard abstains, and is named in the result."""
        return {name: self.hear(name, items) for name in self.named}

    def about(self) -> list[JudgeAbout]:
        return [
            JudgeAbout(name=name, type=judge.type, votes=judge.has_vote, stand_in=judge.stand_in,
                       unavailable=self.unavailable.get(name))
            for name, judge in self.named.items()
        ]  # fmt: skip

    def hear(self, name: str, items: Sequence[Item]) -> list[Judged]:
        """One judge's verdicts."""
        judge = self._judges[name]
        if judge is None or not items:
            return [ABSTAINS] * len(items)
        try:
            return judge.judge(items)
        except Retryable:  # an endpoint is down: the job is tried again
            raise
        except Permanent as refusal:
            if isinstance(refusal, InvalidInput) and self.named[name].stand_in:
                raise
            self._miss(name, refusal.message)
            return [ABSTAINS] * len(items)

    def _miss(self, name: str, why: str) -> None:
        self.unavailable[name] = why[:300]
        self._ctx.log(f"judge {name} can't be heard and abstains: {why[:300]}")

    def _open(self, judge: Judge) -> judges.Judge | None:
        try:
            return self._opened(judge)
        except InvalidInput as refusal:
            self._miss(judge.name, refusal.message)
            return None

    def _opened(self, judge: Judge) -> judges.Judge:
        votes = judge.has_vote
        if judge.type == "keyword":
            return KeywordJudge(judge.name, votes, self._params.match_phrases or MATCH_PHRASES)
        if judge.type == "exact":
            from workers.dsn.colours.verdicts import ExactJudge

            return ExactJudge(judge.name, votes)
        if judge.type == "nli":
            return self._nli(judge)
        assert judge.model is not None
        if judge.type == "llm":
            from workers.dsn.llm_judges import LlmJudge

            self._refuse_remote(judge)
            return LlmJudge(judge.name, votes, judge.model, self._ctx, self._settings)
        from workers.dsn.classifier import ClassifierJudge, load_classifier

        model, tokenizer = load_classifier(judge.model, self._folder(judge))
        return ClassifierJudge(judge.name, votes, model, tokenizer, judge.template)

    def _nli(self, judge: Judge) -> NliJudge:
        p = self._params
        weighing = Weighing(p.nli_threshold, p.alpha_1, p.alpha_2, p.nli_short_policy == "scaled")
        if judge.model == STAND_IN:
            from workers.dsn.colours.verdicts import nli_stand_in

            return nli_stand_in(judge.name, judge.has_vote, weighing)
        from workers.dsn.classifier import load_nli
        from workers.dsn.nli_model import NliModel

        assert judge.model is not None
        return NliJudge(
            judge.name, judge.has_vote, NliModel(judge.model, *load_nli(judge.model, self._folder(judge))), weighing
        )

    def _refuse_remote(self, judge: Judge) -> None:
        """The worker's own look at the operator's switch: whoever submitted, and however."""
        assert judge.model is not None
        if judge.model.scheme == "endpoint" and self._settings.redteam_remote_judges == "off":
            raise InvalidInput("judges behind endpoints are off here (TENFOLD_REDTEAM_REMOTE_JUDGES)")

    def _folder(self, judge: Judge) -> object:
        assert judge.model is not None
        return model_folder(judge.model, self._ctx, self._settings.data.resolve() / "cache" / "models").path
