"""What a model's modules are, and which of them follows which.

``trace.trace`` gives the ``graph.Graph`` of a model. It goes by three steps: ``fx_tracer`` runs the
forward on stand-ins, ``model_to_flow`` takes the calls that this records for steps of a
``flow.Flow``, and ``flow_to_graph`` reads activations, norms and branches from the steps. Where a
forward cannot run on stand-ins, ``module_order`` goes by the modules' order and names.
"""
