import pytest

from deployments.ingress.http.admission import Admission
from pipelines.errors import Overloaded


def test_as_many_as_there_is_room_for() -> None:
    admission = Admission(2)
    with admission.admit(), admission.admit(), pytest.raises(Overloaded), admission.admit():
        pass


def test_whoever_leaves_makes_room_also_by_an_error() -> None:
    admission = Admission(1)
    with pytest.raises(ZeroDivisionError), admission.admit():
        raise ZeroDivisionError
    with admission.admit():
        pass
