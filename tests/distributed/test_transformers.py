"""Models of transformers start spread over processes, and train by accelerate and by its Trainer."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from on_ranks import on_ranks
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

import pyinit

transformers = pytest.importorskip("transformers")

TOKENS = torch.arange(2 * 8).view(2, 8) % 23
SEED = 5


def llama() -> Any:
    config = transformers.LlamaConfig(
        vocab_size=23,
        hidden_size=16,
        intermediate_size=20,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
    )
    return transformers.AutoModelForCausalLM.from_config(config)


def gpt2() -> Any:
    config = transformers.GPT2Config(n_embd=16, n_layer=2, n_head=4, vocab_size=23, n_positions=32)
    return transformers.AutoModelForCausalLM.from_config(config)


def sharded(build: Any, layers: str, recipe: str) -> Any:
    """The steps that docs/scale.md shows."""
    with torch.device("meta"):
        model = build()
    for layer in model.get_submodule(layers):
        fully_shard(layer)
    fully_shard(model)
    model.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):  # what may be there
        local = tensor._local_tensor if isinstance(tensor, DTensor) else tensor
        local.detach().fill_(7)
    pyinit.initialize_(model, recipe, seed=SEED)
    return model


def plain(build: Any, recipe: str) -> Any:
    model = build()
    pyinit.initialize_(model, recipe, seed=SEED)
    return model


def start() -> list[str]:
    failed = []
    for build, layers in ((llama, "model.layers"), (gpt2, "transformer.h")):
        for recipe in ("auto", "llama", "torch"):
            model, alone = sharded(build, layers, recipe), plain(build, recipe)
            ours = {name: p.full_tensor() for name, p in model.named_parameters()}
            theirs = dict(alone.named_parameters())
            bad = [name for name in theirs if not torch.equal(ours[name], theirs[name])]
            buffers = dict(alone.named_buffers())
            bad += [n for n, b in model.named_buffers() if not torch.equal(b, buffers[n])]
            alone.eval()
            logits = model.eval()(TOKENS).logits
            if not torch.allclose(logits, alone.eval()(TOKENS).logits, atol=1e-5):
                bad.append("logits")
            failed += [f"{build.__name__}, {recipe}: {name}" for name in bad]
    return failed


@pytest.fixture(scope="module")
def on_two(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[list[str], Any, Any]]:
    """What went wrong at the start, and losses by accelerate and by the Trainer, on each rank."""
    return on_ranks(all_of_them, 2, str(tmp_path_factory.mktemp("trainer")))


def all_of_them(folder: str) -> tuple[list[str], Any, Any]:
    if importlib.util.find_spec("accelerate") is None:
        return start(), None, None
    return start(), losses_by_accelerate(), losses_by_trainer(folder)


def test_they_start_as_the_plain_model(on_two: list[Any]) -> None:
    assert [failed for failed, *_ in on_two] == [[], []]


# ---- accelerate ------------------------------------------------------------------------------------


def by_fully_shard(accelerator: Any) -> Any:
    """Have accelerate run its code for FSDP2, which it does on GPUs alone, with processes on CPUs."""
    from accelerate import DistributedType, FullyShardedDataParallelPlugin  # noqa: PLC0415

    state = accelerator.state
    state.distributed_type = DistributedType.FSDP
    state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, cpu_ram_efficient_loading=False
    )
    return accelerator


def losses_by_accelerate() -> list[float]:
    from accelerate import Accelerator  # noqa: PLC0415

    accelerator = by_fully_shard(Accelerator(cpu=True))
    model = sharded(llama, "model.layers", "llama")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    model, optimizer = accelerator.prepare(model, optimizer)
    losses = [step(model, optimizer, accelerator.backward) for _ in range(3)]
    accelerator.state._reset_state(reset_partial_state=True)
    return losses


def step(model: nn.Module, optimizer: Any, backward: Any) -> float:
    loss = model(TOKENS, labels=TOKENS).loss
    backward(loss)
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def test_accelerate_trains_them_as_one_process_does(on_two: list[Any]) -> None:
    pytest.importorskip("accelerate")
    model = plain(llama, "llama")
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    expected = [step(model, optimizer, Tensor.backward) for _ in range(3)]
    for _, losses, _ in on_two:
        assert losses == pytest.approx(expected, abs=1e-4)


class Sentences(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> dict[str, Tensor]:
        tokens = (torch.arange(8) + i) % 23
        return {"input_ids": tokens, "labels": tokens}


def trained(model: nn.Module, folder: str, adapt: Any) -> list[float]:
    """The losses of some steps of the Trainer."""

    class Trainer(transformers.Trainer):
        def create_accelerator_and_postprocess(self) -> None:
            super().create_accelerator_and_postprocess()
            adapt(self.accelerator)
            self.is_fsdp_enabled = getattr(self.accelerator.state, "fsdp_plugin", None) is not None

    size = torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1
    arguments = transformers.TrainingArguments(
        folder,
        use_cpu=True,
        max_steps=2,
        per_device_train_batch_size=4 // size,
        learning_rate=0.01,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=Sentences())
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def losses_by_trainer(folder: str) -> list[float]:
    return trained(sharded(llama, "model.layers", "llama"), folder, by_fully_shard)


def test_the_trainer_trains_them_as_one_process_does(on_two: list[Any], tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    expected = trained(plain(llama, "llama"), str(tmp_path), lambda accelerator: accelerator)
    for _, _, losses in on_two:
        assert losses == pytest.approx(expected, abs=1e-3)
