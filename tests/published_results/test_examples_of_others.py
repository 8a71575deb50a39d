"""RXNMapper's examples are read out of its README and of its tests."""

from __future__ import annotations

from published.examples import Example, molecules, of_readme, of_tests

README = """
```python
from rxnmapper import RXNMapper
rxns = ['C>>C', 'O.C>>CO']
```
gives
```python
[{'mapped_rxn': '[C:1]>>[C:1]', 'confidence': 0.5},
 {'mapped_rxn': '[O:1].[C:2]>>[C:2][O:1]', 'confidence': 0.25}]
```
and another
```python
rxns = ['N>>N']
```
"""
TESTS = """
def test_one(mapper):
    rxns = ["C>>C"]
    expected = [{"mapped_rxn": "[C:1]>>[C:1]", "confidence": 0.5}]
    results = mapper.map(rxns, canonicalize_rxns=False)
    assert results == expected

def test_without_results(mapper):
    rxns = ["C>>C"]
    assert mapper.map(rxns)
"""


def test_the_readme():
    first = Example("README, 1", "C>>C", "[C:1]>>[C:1]", 0.5, True)
    second = Example("README, 2", "O.C>>CO", "[O:1].[C:2]>>[C:2][O:1]", 0.25, True)
    assert of_readme(README) == [first, second]


def test_the_tests():
    assert of_tests(TESTS) == [Example("test_one", "C>>C", "[C:1]>>[C:1]", 0.5, False)]


def test_the_order_of_molecules_does_not_matter():
    assert molecules("A.B>>C.D |f:0.1|") == molecules("B.A>>D.C")
    assert molecules("A.B>>C") != molecules("A>>B.C")
