from tests.integration.training.fixtures import data, model_folder, steady_model_folder

__all__ = ["data", "model_folder", "steady_model_folder"]
